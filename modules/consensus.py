"""The caption that most of an image's other captions agree with.

    c* = argmax_c (1/M) Σ_m CIDEr-D(c, c_m)    over the M captions c_m that a captioner has drawn for the image

The most probable caption need not be a good one: a model that is undecided among many sentences, each a little
different, gives all of them little. The one that is closest to all the others is what they have in common: if the draws
are as likely as true captions are, it has the largest expected CIDEr-D.

Sources: S. Kumar, W. Byrne, "Minimum Bayes-risk decoding for statistical machine translation", NAACL 2004; J. Devlin et
al., "Exploring nearest neighbor approaches for image captioning", arXiv 1505.04467, section 3.2, for captions.
"""

from collections.abc import Sequence

from modules.cider import CIDEr


def consensus(drawn: Sequence[Sequence[str]]) -> list[str]:
    """The chosen caption of each image; which words are rare is judged by the draws of all images together.

    Args:
        drawn: the captions of each image, at least one. One that was drawn twice counts twice.

    Raises:
        ValueError: an image without captions.
    """
    if not all(drawn):
        raise ValueError("An image has no captions to choose from; draw at least one for each.")
    candidates = [list(dict.fromkeys(texts)) for texts in drawn]
    metric = CIDEr()
    for texts, of_image in zip(candidates, drawn, strict=True):
        metric.update(texts, [of_image] * len(texts))
    scores = metric.of_images().split([len(texts) for texts in candidates])
    return [texts[int(score.argmax())] for texts, score in zip(candidates, scores, strict=True)]

"""The caption that an image's other captions agree with most.

    c* = argmax_c (1/M) Σ_m CIDEr-D(c, c_m)    over the M different captions c_m that were drawn for the image

The most probable caption need not be a good one: a model that is undecided among many sentences, each a little
different, gives all of them little. The one closest to all the others is what they have in common. A caption that was
drawn twice counts once: that says how sure the model is of this very sentence, and would hide what the others share.

Sources: J. Devlin et al., "Exploring nearest neighbor approaches for image captioning", arXiv 1505.04467, section 3.2,
where the captions are those of similar images; S. Kumar, W. Byrne, "Minimum Bayes-risk decoding for statistical machine
translation", NAACL 2004, for the loss in place of the probability.
"""

from collections.abc import Sequence

from common.errors import UserError
from modules.caption_metrics.cider import CIDEr


def consensus(drawn: Sequence[Sequence[str]]) -> list[str]:
    """The chosen caption of each image; which words are rare is judged by the draws of all images together.

    Args:
        drawn: the captions of each image, at least one.

    Raises:
        ValueError: an image without captions.
    """
    if not all(drawn):
        raise UserError("An image has no captions to choose from; draw at least one for each.")
    candidates = [list(dict.fromkeys(texts)) for texts in drawn]
    metric = CIDEr()
    for texts in candidates:
        metric.update(texts, [texts] * len(texts))
    scores = metric.of_images().split([len(texts) for texts in candidates])
    return [texts[int(score.argmax())] for texts, score in zip(candidates, scores, strict=True)]

"""Consensus caption: of several sampled captions of an image, the one most similar to all the others.

    c* = argmax_c (1/M) Σ_m CIDEr-D(c, c_m)    over the M different captions c_m that were sampled for the image

The most probable caption need not be a good one: among many slightly different sentences, each has a low probability.
The one closest to all the others contains what they have in common. A caption that was sampled twice counts once;
otherwise a frequent sentence would outweigh what the others share. CIDEr-D weighs words by how few captions contain
them. Where no two captions of an image share a word with a weight, as is common with a single image, plain counts of
n-grams decide.

Sources: J. Devlin et al., "Exploring nearest neighbor approaches for image captioning", arXiv 1505.04467, section 3.2,
where the captions are those of similar images; S. Kumar, W. Byrne, "Minimum Bayes-risk decoding for statistical machine
translation", NAACL 2004, for the loss in place of the probability.
"""

from collections.abc import Sequence

from common.errors import UserError
from modules.caption_metrics.cider import CIDEr


def consensus(samples: Sequence[Sequence[str]]) -> list[str]:
    """Returns the consensus caption of each image; n-grams are weighted by their frequency over all images' samples.

    Args:
        samples: Sampled captions of each image, at least one.

    Raises:
        ValueError: If an image has no captions.
    """
    if not all(samples):
        raise UserError("An image has no captions to choose from; sample at least one for each.")
    candidates = [list(dict.fromkeys(texts)) for texts in samples]
    metric, with_others = CIDEr(), CIDEr()
    for texts in candidates:
        metric.update(texts, [texts] * len(texts))
        with_others.update(texts, [[other for other in texts if other != text] or [text] for text in texts])
    sizes = [len(texts) for texts in candidates]
    weighted, shared, plain = (
        scores.split(sizes)
        for scores in (metric.image_scores(), with_others.image_scores(), with_others.image_scores(weighted=False))
    )
    chosen = [a if b.any() else c for a, b, c in zip(weighted, shared, plain, strict=True)]
    return [texts[int(scores.argmax())] for texts, scores in zip(candidates, chosen, strict=True)]

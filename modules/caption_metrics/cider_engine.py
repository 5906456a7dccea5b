"""Computes CIDEr-D of `cider.py` with hashed n-grams and sorted searches, all images at once.

Shapes: N images, R references of all images, S = N + R sentences; P n-grams in all of them, G different ones, Q
different pairs of an n-gram and its sentence.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from modules.caption_metrics.caption_metric import LONGEST, Sentences


def cider_scores(
    captions: Sentences, references: Sentences, per_image: Tensor, sigma: float, weighted: bool = True
) -> Tensor:
    """Returns CIDEr-D of each image, (N,) float64.

    Args:
        captions: N captions.
        references: References of all images, in the order of the images.
        per_image: Number of references of each image, (N,).
        sigma: Standard deviation σ of the length penalty, in bigrams.
        weighted: Whether counts are multiplied by the logarithm of N / images with the n-gram.
    """
    image = torch.arange(len(per_image)).repeat_interleave(per_image)  # of each reference, (R,)
    similarity = _similarities(captions, references, image, weighted)
    differences = (captions.lengths - 1).clamp(min=0)[image] - (references.lengths - 1).clamp(min=0)
    similarity *= _length_penalties(differences, sigma)
    return 10 / LONGEST * torch.bincount(image, similarity, len(per_image)) / per_image


def _similarities(captions: Sentences, references: Sentences, image: Tensor, weighted: bool) -> Tensor:
    """Clipped cosine of each reference with its image's caption, summed over n: (R,) float64."""
    images, total = len(captions.lengths), torch.zeros(len(image), dtype=torch.float64)
    logarithms = torch.arange(images + 1).clamp(min=1).double().log()
    idf = logarithms[-1] - logarithms if weighted else torch.ones(images + 1, dtype=torch.float64)  # by images with it
    sentences = Sentences(
        torch.cat([captions.words, references.words]), torch.cat([captions.lengths, references.lengths])
    )
    for hashes, sentence in sentences.ngrams():
        gram, sentence, count = _counts(hashes, sentence)  # (Q,)
        in_captions, in_references = (where.nonzero().flatten() for where in (sentence < images, sentence >= images))
        caption, reference = sentence[in_captions], sentence[in_references] - images
        caption_keys = gram[in_captions] * images + caption  # n-gram and image in one number, sorted
        reference_keys = gram[in_references] * images + image[reference]  # sorted likewise
        documents = torch.bincount(gram[in_references[_changes(reference_keys)]], minlength=len(gram))
        weights = count * idf[documents[gram]]
        norms = torch.bincount(sentence, weights.square(), images + len(image)).sqrt()  # (S,)
        caption_weights, reference_weights = weights[in_captions], weights[in_references]
        matched = F.pad(caption_weights, (0, 1))[_find(caption_keys, reference_keys)]  # 0 if not in the caption
        clipped = torch.minimum(matched, reference_weights)
        products = torch.bincount(reference, clipped * reference_weights, len(image))  # (R,)
        total += (products / (norms[image] * norms[images:])).nan_to_num()  # 0 / 0 where no n-gram has a weight
    return total


def has_rare_ngrams(references: Sentences, per_image: Tensor) -> bool:
    """Returns whether an n-gram occurs in the references of some images, but not of all."""
    image = torch.arange(len(per_image)).repeat_interleave(per_image)
    for hashes, sentence in references.ngrams():
        gram, sentence, _ = _counts(hashes, sentence)
        pairs = (gram * len(per_image) + image[sentence]).unique()  # n-grams with their images
        documents = torch.bincount(pairs // len(per_image))
        if len(documents) and int(documents.min()) < len(per_image):
            return True
    return False


def _counts(hashes: Tensor, sentence: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Counts the n-grams of each sentence.

    Args:
        hashes: Hashes of all n-grams, (P,).
        sentence: Index of the sentence of each of them, (P,), sorted.

    Returns:
        Indices of n-grams, below G, indices of their sentences, and counts: (Q,) each, sorted by both indices.
    """
    hashes, order = hashes.sort(stable=True)  # so the sentences stay sorted within an n-gram
    sentence = sentence[order]
    new_gram = _changes(hashes)
    first = (new_gram | _changes(sentence)).nonzero().flatten()
    count = first.diff(append=first.new_tensor([len(hashes)]))
    return new_gram.cumsum(0)[first] - 1, sentence[first], count


def _changes(values: Tensor) -> Tensor:
    """Returns where a value differs from the one before it; the first one counts as different."""
    changed = torch.ones(len(values), dtype=torch.bool)
    torch.ne(values[1:], values[:-1], out=changed[1:])
    return changed


def _find(keys: Tensor, queries: Tensor) -> Tensor:
    """Returns the index of each query among sorted keys, len(keys) for queries that are not among them."""
    index = torch.searchsorted(keys, queries)
    return torch.where(F.pad(keys, (0, 1), value=-1)[index] == queries, index, len(keys))


def _length_penalties(differences: Tensor, sigma: float) -> Tensor:
    """exp(−δ² / 2σ²) of integers δ, from a table, so that equal δ have bitwise equal penalties."""
    sizes = differences.abs()
    return torch.arange(int(sizes.max()) + 1).double().square().div(-2 * sigma**2).exp()[sizes]

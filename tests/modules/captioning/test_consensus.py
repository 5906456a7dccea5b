"""The chosen caption is the one with the largest mean CIDEr-D against the others, by a plain loop."""

import random

import pytest

from modules.caption_metrics.cider import CIDEr
from modules.captioning.consensus import consensus

WORDS = ["a", "the", "red", "blue", "large", "circle", "square", "left", "right", "of", "is", "and"]


def test_it_maximizes_the_mean_similarity_to_the_different_samples() -> None:
    rng = random.Random(0)
    for _ in range(20):
        samples = [[" ".join(rng.choices(WORDS, k=rng.randint(3, 7))) for _ in range(4)] for _ in range(5)]
        samples = [texts + rng.choices(texts, k=2) for texts in samples]  # some twice
        candidates = [sorted(set(texts)) for texts in samples]
        loop = CIDEr()
        for texts in candidates:
            for text in texts:
                loop.update([text], [texts])
        scores = dict(
            zip([(i, text) for i, texts in enumerate(candidates) for text in texts], loop.image_scores(), strict=True)
        )
        for image, chosen in enumerate(consensus(samples)):
            assert scores[image, chosen] == max(scores[image, text] for text in candidates[image])


def test_the_odd_one_out_is_not_chosen() -> None:
    about_dogs = ["a dog runs on grass", "a brown dog runs on green grass", "the dog runs", "two cats sit in a box"]
    assert consensus([about_dogs, ["a red bus", "a red bus", "a tall tower"]])[0] != about_dogs[-1]
    often = [*about_dogs[:3], *(9 * about_dogs[3:])]
    assert consensus([often, ["a red bus"]]) == consensus([about_dogs, ["a red bus"]])


@pytest.mark.parametrize(
    ("samples", "chosen"),
    [
        ([["zebra on mars", "a red dog on a table", "a red dog on the table", "a red dog"]], "a red dog on the table"),
        ([["zebra", "a dog", "a dog runs"], ["a dog", "a dog runs"]], "a dog"),  # only the odd one has rare words
        ([["a dog"]], "a dog"),
        ([["", "a dog", "a dog runs"]], "a dog"),
    ],
)
def test_plain_counts_decide_where_no_shared_word_is_rare(samples: list[list[str]], chosen: str) -> None:
    assert consensus(samples)[0] == chosen


def test_an_image_without_captions_is_refused() -> None:
    with pytest.raises(ValueError, match="sample at least one"):
        consensus([["a dog"], []])

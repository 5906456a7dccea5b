"""The longest common subsequence against the recursion of its definition, and ROUGE-L by hand."""

from functools import cache

import pytest
import torch

from modules.caption_metrics.rouge import ROUGE, common_subsequences


def by_definition(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    @cache
    def length(i: int, j: int) -> int:
        if not i or not j:
            return 0
        if a[i - 1] == b[j - 1]:
            return length(i - 1, j - 1) + 1
        return max(length(i - 1, j), length(i, j - 1))

    return length(len(a), len(b))


@pytest.mark.parametrize("words", [1, 2, 5, 20])
@pytest.mark.parametrize(("longest", "other"), [(1, 1), (3, 9), (9, 3), (17, 18), (70, 66)])
def test_common_subsequences(words: int, longest: int, other: int) -> None:
    generator = torch.Generator().manual_seed(words)
    a, b = torch.full((20, longest), -1), torch.full((20, other), -2)
    for row in range(20):
        for side in (a, b):
            length = int(torch.randint(side.shape[1] + 1, (), generator=generator))
            side[row, :length] = torch.randint(words, (length,), generator=generator)
    pairs = zip(a.tolist(), b.tolist(), strict=True)
    assert common_subsequences(a, b).tolist() == [by_definition(tuple(left), tuple(right)) for left, right in pairs]


def rouge(captions: list[str], references: list[list[str]]) -> float:
    metric = ROUGE()
    metric.update(captions, references)
    return float(metric.compute())


def f(precision: float, recall: float) -> float:
    return (1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision)


def test_precision_and_recall_may_be_of_different_references() -> None:
    """Of 4 words 3 are in the first reference of 9, and 2 in the second of 2."""
    assert rouge(["a b c d"], [["a x b x c x x x x", "a c"]]) == pytest.approx(f(3 / 4, 2 / 2))


def test_order_counts_and_images_are_averaged() -> None:
    assert rouge(["d c b a", "Yes."], [["a b c d"], ["yes"]]) == pytest.approx((f(1 / 4, 1 / 4) + 1) / 2)
    assert rouge(["a b", "c"], [["x"], ["c"]]) == pytest.approx(1 / 2)

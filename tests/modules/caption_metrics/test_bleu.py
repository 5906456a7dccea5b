"""BLEU of captions whose n-grams can be counted by hand."""

from math import exp

import pytest

from modules.caption_metrics.bleu import BLEU


def bleu(captions: list[str], references: list[list[str]]) -> list[float]:
    metric = BLEU()
    metric.update(captions, references)
    return metric.compute().tolist()


def test_a_word_counts_as_often_as_one_reference_has_it() -> None:
    """The example of the paper: "the" seven times, twice in one reference and once in the other."""
    found = bleu(["the the the the the the the"], [["The cat is on the mat.", "There is a cat on the mat."]])
    assert found[0] == pytest.approx(2 / 7)
    assert found[1] < 1e-6  # no pair of words is right


def test_precisions_are_of_the_whole_corpus() -> None:
    """Words 4/4 and 2/4, pairs 3/3 and 0/3; threes 2/2 and 0/2; fours 1/1 and 0/1."""
    found = bleu(["a b c d", "a x c y"], [["a b c d"], ["c b a d"]])
    precisions = [6 / 8, 3 / 6, 2 / 4, 1 / 2]
    products = [precisions[0], precisions[0] * precisions[1], 6 / 32, 3 / 32]
    assert found == pytest.approx([product ** (1 / n) for n, product in enumerate(products, start=1)])


@pytest.mark.parametrize(
    ("references", "closest"),
    [(["a b c d e f"], 6), (["d c", "a b c d e f"], 2), (["a b c d e f", "d c"], 2), (["a", "a b c d e"], 5)],
)
def test_short_captions_are_penalized_by_the_closest_reference(references: list[str], closest: int) -> None:
    """The caption has 4 words; of references of 2 and of 6 the shorter one counts."""
    found = bleu(["a b c d"], [references])
    assert found[0] == pytest.approx(exp(min(0, 1 - closest / 4)), rel=1e-6)


def test_a_caption_equal_to_a_reference_scores_one() -> None:
    assert bleu(["A man rides a horse."], [["Somebody", "a man rides a horse"]]) == pytest.approx([1] * 4)

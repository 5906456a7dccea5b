"""CIDEr-D by hand, and the engine against the formula in plain Python."""

import random
from math import exp, log, sqrt

import pytest

from modules.caption_metrics.cider import CIDEr, cider_d
from tests.modules.caption_metrics.test_caption_metric import CORPORA, Corpus, corpus, expected


def cider(captions: list[str], references: list[list[str]]) -> float:
    metric = CIDEr()
    metric.update(captions, references)
    return float(metric.compute())


def test_captions_equal_to_their_references_score_ten() -> None:
    texts = ["a man rides a horse", "two red buses stand there", "one cat sleeps over here"]
    assert cider(texts, [[text, text] for text in texts]) == pytest.approx(10)
    assert cider(texts, [[text, "nothing like it 1 2"] for text in texts]) == pytest.approx(5)


def test_rare_words_count_and_common_ones_do_not() -> None:
    """References of both images have "a", so it weighs log(2/2) = 0; all others weigh log 2."""
    found = cider(["a dog", "a cat"], [["a dog"], ["a bus"]])
    assert found == pytest.approx(10 * (1 + 1) / 4 / 2)  # n = 1 and 2 of 4, one image of 2


def test_a_word_said_too_often_is_clipped_and_a_wrong_length_penalized() -> None:
    """The caption has b three times and c once; the reference each once, and no n-gram of more words in common."""
    found = cider(["b b b c", "x"], [["c b"], ["y"]])
    cosine = (1 * 1 + 1 * 1) / (sqrt(3**2 + 1) * sqrt(2))
    penalty = exp(-((3 - 1) ** 2) / (2 * 6**2))  # of pairs of neighbors, 3 and 1
    assert found == pytest.approx(10 * cosine * penalty / 4 / 2)


def test_weights_are_of_the_corpus() -> None:
    """With N images, b stands in references of two and c in those of one."""
    captions, references = ["b c", "b", "z", "z"], [["b d"], ["b"], ["e"], ["f"]]
    b, c = log(4 / 2), log(4 / 1)
    first = b * b / (sqrt(b**2 + c**2) * sqrt(b**2 + c**2))
    assert cider(captions, references) == pytest.approx(10 * (first + 1) / 4 / 4)


RANDOM: dict[str, Corpus] = {
    f"{images} images, {words} words, seed {seed}": corpus(images, [1, 2, 5], (0, longest), words, seed)
    for images, longest, words in [(1, 8, 5), (2, 30, 3), (25, 12, 8), (120, 20, 60)]
    for seed in range(5)
}


@pytest.mark.parametrize("name", RANDOM)
def test_the_engine_equals_the_formula_on_random_captions(name: str) -> None:
    captions, references = RANDOM[name]
    metric = CIDEr(str.split)
    order = random.Random(0).sample(range(len(captions)), len(captions))
    for i in order:  # in batches of one image, in any order
        metric.update([captions[i]], [references[i]])
    by_formula = cider_d([text.split() for text in captions], [[text.split() for text in of] for of in references])
    assert metric.image_scores().tolist() == pytest.approx([by_formula[i] for i in order], rel=1e-9, abs=1e-12)
    assert float(metric.compute()) == pytest.approx(sum(by_formula) / len(by_formula), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", CORPORA)
def test_the_formula_gives_the_score_of_pycocoevalcap(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    captions, references = CORPORA[name]
    scores = cider_d([text.split() for text in captions], [[text.split() for text in of] for of in references])
    mean = sum(scores) / len(scores)
    assert mean == pytest.approx(expected(CIDEr, CORPORA[name], capsys), rel=1e-9, abs=1e-12)


def test_a_single_image_scores_nothing() -> None:
    assert cider(["a dog"], [["a dog"]]) == 0

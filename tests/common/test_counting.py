"""Counts with their noun."""

import pytest

from common.messages.counting import count, count_kind, plural


@pytest.mark.parametrize(
    ("number", "noun", "said"),
    [
        (0, "run", "0 runs"),
        (1, "run", "1 run"),
        (1200, "run", "1,200 runs"),
        (1, "class", "1 class"),
        (2, "class", "2 classes"),
        (2, "process", "2 processes"),
        (2, "entry", "2 entries"),
        (2, "epoch", "2 epochs"),
        (2, "batch", "2 batches"),
        (2, "day", "2 days"),
        (2, "discriminator step", "2 discriminator steps"),
        (1, "discriminator step", "1 discriminator step"),
    ],
)
def test_a_count_with_its_noun(number: int, noun: str, said: str) -> None:
    assert count(number, noun) == said
    assert plural("branch") == "branches"


@pytest.mark.parametrize(
    ("number", "kind", "said"),
    [
        (1, "hidden files", "1 hidden file"),
        (2, "hidden files", "2 hidden files"),
        (1, "captions of images that their file does not list", "1 caption of images that their file does not list"),
        (1, "images whose file is missing", "1 image whose file is missing"),
        (1, ".heic", "1 .heic"),
    ],
)
def test_one_of_a_kind_is_a_singular(number: int, kind: str, said: str) -> None:
    assert count_kind(number, kind) == said

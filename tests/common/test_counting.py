"""Counts with their noun."""

import pytest

from common.messages.counting import count, plural


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

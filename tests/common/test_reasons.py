"""Reasons of errors in one line."""

import pytest

from common.messages.reasons import reason_of


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("It failed."), "It failed"),
        (ValueError("\n first \nsecond."), "first "),
        (TimeoutError(), "TimeoutError"),
        (KeyError("name"), "'name'"),
        (ValueError(" \n"), "ValueError"),
    ],
)
def test_the_reason_is_the_first_line_or_the_class(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason

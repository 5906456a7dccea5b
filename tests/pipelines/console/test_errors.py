"""The sentence that an error becomes."""

import errno

import pytest

from common.errors import UserError
from pipelines.console.errors import sentence
from pipelines.train import main

LONG = "x" * 20_000


@pytest.mark.parametrize(
    "error, text",
    [
        (UserError(f"{LONG} is\nnot a topic; use svm."), f"{'x' * 100}…{'x' * 40} is not a topic; use svm."),
        (UserError("a" * 400), "a" * 400),
        (
            OSError(errno.ENAMETOOLONG, "File name too long", f"{LONG}/my.yaml"),
            f"{'x' * 100}…{'x' * 31}/my.yaml: file name too long; make it usable or choose another path.",
        ),
    ],
)
def test_a_very_long_word_is_shortened(error: Exception, text: str) -> None:
    assert sentence(error) == text


def test_a_command_line_with_a_value_of_20000_characters_ends_with_a_short_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for arguments in ([LONG, "--ckpt_path", "logs"], ["fit", "--config", LONG], ["fit", "--ckpt_path", LONG]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        assert len(capsys.readouterr().err) < 800, arguments

"""Passwords and API keys are hidden in settings, command lines and the status; similar names are left as they are."""

import json
import sys
from pathlib import Path

import pytest

from pipelines.run.status import StatusFile, read_status
from pipelines.tracking.flat_settings import flat_settings
from pipelines.tracking.secrets import hide_arguments, hide_secrets, without_passwords


def test_urls_lose_their_passwords() -> None:
    assert without_passwords("see ftp://a:b@c@d/e, http://f/@g, me@x.org") == "see ftp://d/e, http://f/@g, me@x.org"


def test_settings_lose_keys_and_passwords() -> None:
    logger = {"class_path": "CometLogger", "init_args": {"api_key": "k", "name": "n", "url": "http://a:b@c"}}
    config = {"trainer": {"logger": [logger], "max_tokens": 3}, "data": {"token": None, "auth_token": "t"}}
    assert flat_settings(config) == {
        "trainer.logger": [
            {"class_path": "CometLogger", "init_args": {"api_key": "***", "name": "n", "url": "http://c"}}
        ],
        "trainer.max_tokens": 3,
        "data.token": None,
        "data.auth_token": "***",
    }
    kept = {"num_tokens": 1, "tokenizer": "ptb", "secretive": "x", "key": "y", "root": "a@b"}
    assert hide_secrets(kept) == kept


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (
            ["--trainer.logger.api_key", "k", "--model.reg", "1"],
            ["--trainer.logger.api_key", "***", "--model.reg", "1"],
        ),
        (["--a.password=p", "--b.token=", "--c=1"], ["--a.password=***", "--b.token=", "--c=1"]),
        (["--uri", "http://me:pw@host/x", "--uri=https://a:b@c"], ["--uri", "http://host/x", "--uri=https://c"]),
        (["fit", "--config", "softmax", "token"], ["fit", "--config", "softmax", "token"]),
    ],
)
def test_a_command_line_loses_them(given: list[str], shown: list[str]) -> None:
    assert hide_arguments(given) == shown


def test_the_status_has_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train", "fit", "--trainer.logger.api_key=SECRET"])
    status = StatusFile(tmp_path)
    status.begin()
    status.end("finished")
    assert read_status(tmp_path).command == "python -m pipelines.train fit '--trainer.logger.api_key=***'"
    assert "SECRET" not in json.dumps((tmp_path / "status.json").read_text())

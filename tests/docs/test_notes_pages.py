"""The pages of the site, in headless Chromium and as text: no errors or requests; links, formulas and commands work."""

import argparse
import importlib
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import unquote

import pytest

from pipelines import crossval, train
from tests.chromium import open_browser
from tests.docs.notes_site import PROJECT, Page, built_site, typed_commands

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")]

QUESTIONS = {  # as a student would type them, and the section that answers
    "why does batch norm need running statistics at test time": "batch_norm.html#evaluation-why-running-statistics",
    "derive the gradient of softmax": "softmax.html#the-gradient-by-hand",
    "where is the hinge margin set": "svm.html#where-the-hinge-margin-is-set",
    "why divide attention by sqrt d": "attention.html#scaled-dot-product-attention",
    "why do rnn gradients vanish": "rnn.html#why-gradients-vanish-or-explode",
    "why does dropout divide by p": "dropout.html#inverted-dropout",
    "bias correction in adam": "update_rules.html#adam",
    "output size of a convolution": "convolution.html#the-convolution-and-the-size",
    "derivative of max pooling": "pooling.html#the-gradient-by-hand",
    "how to choose k in knn": "knn.html#which-k-cross-validation",
    "initial loss of softmax": "softmax.html#the-initial-loss",
    "why subtract the maximum score": "softmax.html#numerical-stability",
    "non-saturating generator loss": "gan.html#why-the-generator-s-loss-is-changed-saturation",
    "why is the projection head thrown away": "simclr.html#from-views-to-projections",
    "what does a fooling image look like": "fooling.html",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_site(tmp_path_factory)


def pages(site: Path) -> dict[Path, Page]:
    return {file: Page(file) for file in site.rglob("*.html")}


def test_every_link_leads_to_a_page_and_a_place_on_it(site: Path) -> None:
    found = pages(site)
    assert len([file for file in found if file.parent == site / "docs/notes"]) >= 22
    broken = []
    for file, page in found.items():
        for link in page.links:
            address, _, anchor = unquote(link).partition("#")
            if re.match(r"[a-z]+:", address):
                continue
            target = (file.parent / address.partition("?")[0]).resolve() if address else file
            if not target.is_file() or (anchor and target in found and anchor not in found[target].ids):
                broken.append(f"{file.relative_to(site)}: {link}")
    assert not broken, broken[:20]


def test_the_topics_have_formulas_code_commands_and_a_next_step(site: Path) -> None:
    index = (PROJECT / "docs/notes/index.md").read_text(encoding="utf-8")
    topics = re.findall(r"^\| \[.+?\]\((\w+)\.md\)", index, re.M)
    assert len(topics) >= 20 and {file.stem for file in (PROJECT / "docs/notes").glob("*.md")} == {
        *topics,
        "index",
        "questions",
    }
    for topic in topics:
        page, text = Page(site / f"docs/notes/{topic}.html"), (PROJECT / f"docs/notes/{topic}.md").read_text()
        assert page.formulas and all(rendered for _, rendered in page.formulas), topic
        assert list(typed_commands(page)), topic
        assert "```{source}" in text and "\n## Try next\n" in text, topic
        assert "](../../" not in re.sub(r"\]\(\.\./\.\./[\w/.]+\)", "", text), topic


def test_every_page_opens_without_error_and_without_a_request(site: Path) -> None:
    files = [file for file in sorted(site.rglob("*.html")) if "source" not in file.relative_to(site).parts[:1]]
    files += sorted(site.glob("source/modules/**/*.html"))[:5]
    start = site / "index.html"
    files.remove(start)
    with open_browser() as browser:
        browser.call("Page.navigate", url=start.as_uri())
        browser.until("document.readyState === 'complete' && location.pathname.endsWith('/docs/notes/index.html')")
        for file in files:
            browser.load(file)
            assert browser.errors == [], (file, browser.errors)
            assert [url for url in browser.requests if not url.startswith(("file:", "data:"))] == [], file
            # A formula without an own box, or with one of no size, was not rendered.
            unseen = """[...document.querySelectorAll(".formula")].filter((formula) => {
                const box = formula.querySelector("math")?.getBoundingClientRect();
                return !box || !box.width || !box.height || formula.querySelector("merror"); }).length"""
            assert browser.run(unseen) == 0, file
            assert browser.run("document.querySelectorAll('.formula').length") == len(Page(file).formulas), file
            font = "!document.querySelector('math') || document.fonts.check('16px \"STIX Two Math\"')"
            assert browser.run(f"document.fonts.ready.then(() => {font})"), file


@pytest.mark.parametrize("width", [1400, 390])
def test_no_page_of_the_notes_is_wider_than_the_screen(site: Path, width: int) -> None:
    with open_browser() as browser:
        browser.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 800
        )
        for file in sorted((site / "docs/notes").glob("*.html")):
            browser.load(file)
            assert browser.run("document.documentElement.scrollWidth") <= width, file


def test_dark_pages_are_dark(site: Path) -> None:
    with open_browser() as browser:
        brightness = {}
        for scheme in ("light", "dark"):
            browser.load(site / "docs/notes/svm.html", scheme)
            color = browser.run("getComputedStyle(document.body).backgroundColor")
            brightness[scheme] = sum(int(part) for part in re.findall(r"\d+", color)[:3])
        assert brightness["light"] > 700 and brightness["dark"] < 100


def test_the_search_answers_questions(site: Path) -> None:
    results = "[...document.querySelectorAll('.section-results a')].map((link) => link.getAttribute('href'))"
    with open_browser() as browser:
        for question, answer in QUESTIONS.items():
            browser.load(site / "search.html", query=question)
            browser.until("document.querySelector('.section-results a') !== null")
            found = browser.run(results)[:3]
            assert any(f"docs/notes/{answer}" in link for link in found), (question, found)
        browser.load(site / "search.html", query="hinge")  # Sphinx's own list
        browser.until("document.querySelectorAll('#search-results a').length >= 2")
        assert browser.errors == []


class Parsed(Exception):
    """A command line was understood."""


def test_every_command_on_a_page_is_understood(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = {
        command
        for file in sorted((site / "docs").rglob("*.html"))
        for command in typed_commands(Page(file))
        if " " in command[1].strip() and "…" not in command[1]  # "train fit" alone is a mention
        if not re.search(r"--config \S+\.yaml|logs/(photos|my)\b", command[1])  # the reader's own topics
        if "wandb:" not in command[1]  # a checkpoint on a server: tests/pipelines/artifacts
        if command[0] != "new"  # which has no options to parse: tests/pipelines/test_new.py
        if not command[1].startswith("predict ")  # which has options of its own: tests/pipelines/test_outputs.py
    }
    assert len(commands) >= 100
    monkeypatch.chdir(PROJECT)
    understood = set()
    for name, text in sorted(commands):
        arguments = shlex.split(text.replace("SEED", "0").replace("METRIC", "l2"))
        if name in ("train", "check"):
            name, arguments = "train", _of_a_new_run(name, arguments)
        if (name, *arguments) in understood:
            continue
        understood.add((name, *arguments))
        status = _parse(name, arguments, monkeypatch)
        assert status == 0, (name, text, capsys.readouterr().err)


def _parse(name: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> object:
    """Parses a command line as its command does, without running it, and returns the exit status."""
    try:
        _parse_or_exit(name, arguments, monkeypatch)
    except SystemExit as end:
        return end.code or 0
    return 0


def _parse_or_exit(name: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if name in ("sweep", "compare"):
        command = importlib.import_module(f"pipelines.{name}")
        command.parser().parse_args(arguments)
    elif name == "crossval":
        rest = crossval.parse(arguments)[1]
        config = arguments[arguments.index("--config") + 1]
        train.main(["fit", "--config", config, *rest, "--print_config"])
    elif name == "train":
        train.main([*arguments, "--print_config"])
    else:
        _parse_only(importlib.import_module(f"pipelines.{name}").main, arguments, monkeypatch)


def _parse_only(main: Callable[[list[str]], None], arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(*args: Any, **kwargs: Any) -> NoReturn:
        parse(*args, **kwargs)
        raise Parsed

    with monkeypatch.context() as patched:
        patched.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
        with pytest.raises(Parsed):
            main(arguments)


def _of_a_new_run(name: str, arguments: list[str]) -> list[str]:
    """The options of `fit` that a command has; a run's folder, which is not here, becomes the run's topic."""
    command = "fit" if name == "check" else arguments[0]
    rest = [argument for argument in (arguments if name == "check" else arguments[1:]) if argument != "--by-hand"]
    if "--ckpt_path" in rest:
        at = rest.index("--ckpt_path")
        rest[at : at + 2] = ["--config", Path(rest[at + 1]).parts[1]]
    return [command, *rest]

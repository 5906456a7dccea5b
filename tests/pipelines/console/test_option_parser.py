"""All commands answer a wrong option with one sentence and exit status 2, and take the paths that a user writes."""

from importlib import import_module
from pathlib import Path

import pytest

from pipelines.console.option_parser import OptionParser


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("data", "COMMAND is missing; see python -m pipelines.data --help."),
        ("data foo", "There is no command 'foo'; it must be one of list, download, verify, preview."),
        ("data lst", "There is no command 'lst'; did you mean list?"),
        ("data list --foo", "There is no option --foo; use one of --root."),
        ("data list x", "'x' belongs to no option; see python -m pipelines.data list --help."),
        ("data preview cifar10 --n x", "--n is 'x'; it must be an integer."),
        ("data preview cifar10 --n", "--n has no value; see python -m pipelines.data preview --help."),
        ("compare logs --foo", "There is no option --foo; use one of --out, --sort, --group-by, --watch, --wandb."),
        ("compare logs --output x", "There is no option --output; did you mean --out?"),
        ("compare --sort", "--sort has no value; see python -m pipelines.compare --help."),
        ("compare upload --foo", "There is no option --foo; see --help for the accepted names."),
        ("sweep run", "file is missing; see python -m pipelines.sweep run --help."),
        ("sweep run x --run_cap 3", "There is no option --run_cap; did you mean --run-cap?"),
        ("sweep run x --run-ca 3", "There is no option --run-ca; did you mean --run-cap?"),
        ("sweep run x --parallel 0", "--parallel 0 is not a whole number of at least 1."),
        ("sweep show x --engine local", "There is no option --engine; see --help for the accepted names."),
        ("caption RUN", "images is missing; see python -m pipelines.caption --help."),
        ("caption --ckpt RUN", "There is no option --ckpt; give the run first, without an option."),
        ("sample RUN -n many", "-n is 'many'; it must be an integer."),
        (
            "interpret saliency --foo",
            "--out and --images are missing; see python -m pipelines.interpret saliency --help.",
        ),
        ("interpret fooled", "There is no command 'fooled'; did you mean fooling?"),
        ("export RUN", "--format is missing; see python -m pipelines.export --help."),
        ("crossval --folds x", "--folds is 'x'; it must be an integer."),
        ("score_captions a", "annotations is missing; see python -m pipelines.score_captions --help."),
    ],
)
def test_a_wrong_option_is_one_sentence(command: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    name, *arguments = command.split()
    if name == "caption" and "--ckpt" in arguments:
        arguments += ["images"]
    with pytest.raises(SystemExit) as ended:
        import_module(f"pipelines.{name}").main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"error: {said}\n"


def test_paths_are_those_that_a_person_means(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    parser = OptionParser("python -m pipelines.any")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--name")
    given = parser.parse_args(["--out=~/a b/[1].csv", "--name=~/a"])
    assert given.out == Path("/home/me/a b/[1].csv")
    assert given.name == "~/a"

"""README.md's blocks: Python runs as it stands, commands are understood, and those on a run work."""

import re
import shlex
from pathlib import Path

import pytest

from pipelines import compare, sweep, train
from tests.command_line import run_pipeline
from tests.datamodules.files.official_files import write_cifar10

README = Path(__file__).resolve().parents[1] / "README.md"


@pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning:lightning")
def test_every_python_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning's defaults are those of a notebook: model summary, progress bar, logger and checkpoints."""
    monkeypatch.chdir(tmp_path)
    write_cifar10(tmp_path / "data", num_train=1000)
    blocks = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.M | re.S)
    assert blocks
    for block in blocks:
        names: dict[str, object] = {}
        exec(compile(block, "README.md", "exec"), names)  # the README's own code
        assert names["trainer"].callback_metrics["val/accuracy"] >= 0  # type: ignore[attr-defined]
    assert list(tmp_path.rglob("*.ckpt"))


def typed_commands() -> list[tuple[str, list[str]]]:
    """The command lines of the project in README's blocks: the command's name, and its arguments."""
    blocks = README.read_text().split("```")[1::2]
    lines = [re.split(r"\s+#", line)[0].removeprefix("$ ") for block in blocks for line in block.splitlines()]
    found = [re.match(r"(?:python|torchrun --nproc_per_node 4) -m pipelines\.(\w+) (.+)", line) for line in lines]
    return [(match[1], shlex.split(match[2])) for match in found if match]


def test_every_command_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = typed_commands()
    assert {name for name, _ in commands} == {"train", "sweep", "compare"} and len(commands) >= 10
    monkeypatch.chdir(README.parent)
    for name, arguments in commands:
        if name == "sweep":
            sweep.parser().parse_args(arguments)
        elif name == "compare":
            compare.parser().parse_args(arguments)
        elif "--config" in arguments:
            with pytest.raises(SystemExit) as end:
                train.main([*arguments, "--print_config"])
            assert (end.value.code or 0) == (2 if "--model.regg" in arguments else 0), arguments


@pytest.mark.slow
def test_the_commands_on_a_run_work_after_those_that_make_it(tmp_path: Path) -> None:
    write_cifar10(tmp_path / "data", num_train=1000)
    made = next(arguments for name, arguments in typed_commands() if name == "train" and "svm" in arguments)
    assert run_pipeline("train", made, tmp_path, WANDB_RUN_ID="RUN").code == 0
    on_a_run = [arguments for name, arguments in typed_commands() if name == "train" and "logs/svm/RUN" in arguments]
    assert {arguments[0] for arguments in on_a_run} == {"test", "fit"}
    for arguments in on_a_run:
        finished = run_pipeline("train", arguments, tmp_path)
        assert finished.code == 0, finished.err

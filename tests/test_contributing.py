"""CONTRIBUTING.md followed word for word: its files go into a copy of the project, and its commands are run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```(python|yaml|)\n(.*?)^```$", re.M | re.S)


@pytest.mark.slow
def test_the_guide_s_examples_train_check_and_sweep(tmp_path: Path) -> None:
    for room in ("common", "modules", "datamodules", "callbacks", "pipelines"):
        shutil.copytree(PROJECT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "sweeps").mkdir()
    commands: list[str] = []
    written: list[str] = []
    for kind, text in BLOCK.findall((PROJECT / "CONTRIBUTING.md").read_text()):
        if not kind:
            commands += [line for line in text.splitlines() if line.startswith("python -m")]
            continue
        first, _, content = text.partition("\n")
        if first.startswith("# add to "):
            file = tmp_path / first.removeprefix("# add to ")
            file.write_text(file.read_text() + content)
        else:
            file = tmp_path / first.removeprefix("# ")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
            written.append(first.removeprefix("# "))
    assert len(written) == 6 and len(commands) == 5
    environment = {**os.environ, "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path)}
    for command in commands:
        words = [sys.executable, *command.split()[1:]]
        finished = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert finished.returncode == 0, f"{command}\n{finished.stdout}\n{finished.stderr}"
    test = next(name for name in written if name.startswith("tests/"))
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 passed" in tested.stdout, tested.stdout + tested.stderr
    assert len(list(tmp_path.glob("logs/least_squares/*/pictures/weights/*.png"))) == 1
    assert len(list(tmp_path.glob("logs/least_squares/*/checkpoints/best.ckpt"))) == 4  # fit twice, two trials
    assert len(list(tmp_path.glob("logs/fc_net/*/checkpoints/best.ckpt"))) == 1

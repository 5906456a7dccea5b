"""Packs that are trained in the process of a test."""

import os
from pathlib import Path
from typing import Any

import pytest

from pipelines.packs.member import Member
from pipelines.packs.member_cli import SharedParts
from pipelines.packs.pack import Pack
from pipelines.packs.stacked_models import StackedModels


def start_pack(lines: list[str], names: list[str], **environment: str) -> tuple[Pack, list[Member], list[str]]:
    """Returns a pack of runs with these command lines and ids, the runs, and the list of what it tells the user."""
    shared = SharedParts()
    notes: list[str] = []
    members = [
        Member(number, line.split(), {**os.environ, **environment, "WANDB_RUN_ID": name}, Path(f"{name}.log"), shared)
        for number, (line, name) in enumerate(zip(lines, names, strict=True))
    ]
    return Pack(members, lambda: None, lambda member: None, notes.append), members, notes


def train_pack(lines: list[str], names: list[str], **environment: str) -> tuple[list[Member], list[str]]:
    """Trains runs as a pack; returns them, and what the pack told the user."""
    pack, members, notes = start_pack(lines, names, **environment)
    pack.run()
    return members, notes


def count_stacked_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Returns a list that gets the number of models of each training step that is computed for several at once."""
    steps: list[int] = []
    step = StackedModels.step

    def counted(stack: StackedModels, *arguments: Any) -> Any:
        steps.append(len(stack.models))
        return step(stack, *arguments)

    monkeypatch.setattr(StackedModels, "step", counted)
    return steps


def run_folder(name: str) -> Path:
    """Returns the folder of the run with an id, in the working folder."""
    (folder,) = Path("logs").glob(f"*/{name}")
    return folder

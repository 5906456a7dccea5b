"""Damaged checkpoints: bytes, entries that are missing or of another kind, hostile pickles."""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch

from tests.campaign.case import Case, Command, Damage, Expect
from tests.campaign.damage import damaged_file
from tests.campaign.odd_values import near_value, odd_value
from tests.campaign.outcome import MARKER

_CKPT = {"classifier": "logs/fc_net/run", "gan": "logs/gan/run", "captioner": "logs/caption_lstm/run"}
_TRAINING_STATE = ("loops", "callbacks", "optimizer_states", "lr_schedulers", "epoch", "global_step", "state_dict")


def case(random: Random) -> Case:
    """Draws one."""
    files = random.choice(["classifier", "classifier", "gan", "captioner"])
    command, name = _command(random, files)
    pattern = f"{_CKPT[files]}/checkpoints/{name}.ckpt"
    kind = random.choice(["bytes", "bytes", "entry", "entry", "state", "whole", "hostile"])
    expect = Expect.SENTENCE
    if kind == "bytes":
        label, damage = damaged_file(random, pattern)
        expect = Expect.SAME
    elif kind == "state":
        entry = random.choice(_TRAINING_STATE)
        label, damage = f"{pattern} without {entry}", _edited(pattern, lambda stored: stored.pop(entry, None))
        expect = Expect.SAME
    elif kind == "entry":
        draw = random.getrandbits(32)
        label, damage = (
            f"an entry of {pattern} changed by draw {draw}",
            _edited(pattern, lambda stored: change(stored, Random(draw))),
        )
    elif kind == "whole":
        label, damage = _replaced(random, pattern)
    else:
        label, damage, expect = f"{pattern} runs code", _hostile(random, pattern), Expect.REFUSED
    return Case(files, label, (command,), damage, expect)


def _command(random: Random, files: str) -> tuple[Command, str]:
    """A command that reads a checkpoint, and which of the two."""
    run = _CKPT[files]
    fit = Command("train", ("fit", "--ckpt_path", run, "--trainer.max_epochs=3"))
    test = Command("train", ("test", "--ckpt_path", run))
    commands = {
        "classifier": [
            (fit, "last"), (fit, "last"), (test, "best"),
            (Command("train", ("validate", "--ckpt_path", run)), "best"),
            (Command("train", ("predict", "--ckpt_path", run, "--images", "photos", "--out", "p.csv")), "best"),
            (Command("export", (run, "--format", "safetensors", "--out", "m.safetensors")), "best"),
            (Command("interpret", ("saliency", "--ckpt", run, "--images", "photos/0.png", "--out", "maps")), "best"),
        ],
        "gan": [(fit, "last"), (Command("sample", (run, "-n", "4", "--out", "s.png")), "best")],
        "captioner": [(fit, "last"), (test, "best"), (Command("caption", (run, "photos", "--out", "c.json")), "best")],
    }  # fmt: skip
    return random.choice(commands[files])


def _edited(pattern: str, edit: Callable[[dict[str, Any]], Any]) -> Damage:
    def damage(folder: Path) -> str | None:
        stored = torch.load(folder / pattern, weights_only=True)
        words = edit(stored)
        torch.save(stored, folder / pattern)
        return words if isinstance(words, str) else None

    return damage


def change(stored: dict[str, Any], random: Random) -> str:
    """Changes or removes one entry somewhere in nested dicts and lists; returns which."""
    container: Any = stored
    path: list[str] = []
    while True:
        key = random.choice(list(container) if isinstance(container, dict) else range(len(container)))
        path.append(str(key))
        value = container[key]
        if not isinstance(value, dict | list) or not value or random.random() < 0.25:
            break
        container = value
    how = random.choice(["gone", "odd", "near"])
    if how == "gone":
        del container[key]
        return f"{'/'.join(path)} removed"
    new = (
        _other_tensor(random, value)
        if isinstance(value, torch.Tensor)
        else (odd_value if how == "odd" else near_value)(*([random] if how == "odd" else [random, value]))
    )
    container[key] = new
    return f"{'/'.join(path)} is {str(new)[:60]!r}"


def _other_tensor(random: Random, tensor: torch.Tensor) -> Any:
    return random.choice(
        [
            tensor.flatten()[:1], tensor[None], torch.cat([tensor.flatten()] * 2), tensor.double(), tensor.half(),
            torch.full_like(tensor, 0), torch.full(tensor.shape, float("nan")), tensor.bool(), tensor.tolist(), None,
            "x", torch.empty(0), tensor.to_sparse() if tensor.ndim else tensor, tensor.to(torch.complex64),
        ]
    )  # fmt: skip


def _replaced(random: Random, pattern: str) -> tuple[str, Damage]:
    contents: dict[str, Any] = {
        "an empty dict": {}, "a tensor": torch.zeros(3), "a list": [1, 2], "None": None, "a number": 5,
        "only an empty state_dict": {"state_dict": {}}, "a state_dict that is a list": {"state_dict": [1]},
        "a state_dict of numbers": {"state_dict": {"a": 1}}, "plain weights": "weights",
        "state_dict alone": "state_dict", "numbers as keys": {1: {"state_dict": {}}, "state_dict": {2: torch.zeros(1)}},
    }  # fmt: skip
    name = random.choice(sorted(contents))

    def damage(folder: Path) -> None:
        stored = torch.load(folder / pattern, weights_only=True)["state_dict"]
        content = {"weights": stored, "state_dict": {"state_dict": stored}}.get(str(contents[name]), contents[name])
        torch.save(content, folder / pattern)

    return f"{pattern} is {name}", damage


class _Hostile:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> Any:
        return self._call


def _hostile(random: Random, pattern: str) -> Damage:
    import os

    where = random.choice(["whole", "entry", "raw"])
    payload = random.choice([_Hostile(os.system, f"touch {MARKER}"), _Hostile(exec, f"open({MARKER!r}, 'w').close()")])

    def damage(folder: Path) -> None:
        file = folder / pattern
        stored: Any = torch.load(file, weights_only=True)
        if where == "raw":
            file.write_bytes(pickle.dumps(payload))
            return
        stored["hyper_parameters" if where == "entry" else "state_dict"] = payload
        torch.save(stored, file)
        assert zipfile.is_zipfile(file)

    return damage

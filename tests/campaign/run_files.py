"""Damaged files of a run's folder: metrics.csv, config.yaml, status.json."""

from pathlib import Path
from random import Random

from tests.campaign.case import Case, Command, Damage
from tests.campaign.damage import damaged_file

_RUN = "logs/fc_net/run"
_RESUME = Command("train", ("fit", "--ckpt_path", _RUN, "--trainer.max_epochs=3"))
_COMPARE = Command("compare", ("logs", "--out", "page.html"))
_COMMANDS = [_RESUME, _COMPARE, Command("train", ("test", "--ckpt_path", _RUN))]


def case(random: Random) -> Case:
    """Draws one."""
    name = random.choice(["metrics.csv", "metrics.csv", "config.yaml", "status.json"])
    if name == "metrics.csv" and random.random() < 0.6:
        label, damage = _odd_rows(random, f"{_RUN}/{name}")
    else:
        label, damage = damaged_file(random, f"{_RUN}/{name}")
    other = r"^\d  other +finished +0\.\d+"  # the other run is compared whatever became of this one
    return Case("two runs", label, (random.choice(_COMMANDS), _COMPARE), damage, prints=other)


def _odd_rows(random: Random, name: str) -> tuple[str, Damage]:
    """Lines that other programs, kills and full disks leave."""
    rows = {
        "a long cell": "5," + "9" * 200_000,
        "a number of 400 digits": "1" + "0" * 400 + ",1,1,1",
        "an infinite step": "inf,1,1",
        "a negative step": "-3,1,1",
        "a step with a fraction": "2.5,1,1",
        "an open quote": '7,"1,2,3',
        "zero bytes": "8,\0\0\0\0\0",
        "more cells than columns": ",".join(map(str, range(60))),
        "no cells": "",
        "another header": "step,epoch,other",
        "NaN": "9,nan,nan,nan,nan",
        "words": "ten,one,abc",
        "other digits": "٣,١,١",
        "a byte that is not UTF-8": "5,\udcff,1",
        "carriage returns": "5,1\r6,1\r",
        "a formula": "=1+1,@x,+1",
    }
    words = random.choice(sorted(rows))
    at = random.random()

    def damage(folder: Path) -> None:
        file = folder / name
        lines = file.read_text().splitlines()
        lines.insert(int(at * (len(lines) + 1)), rows[words])
        file.write_text("\n".join(lines) + "\n", errors="surrogateescape")

    return f"{name} has a line with {words} at {at:.2f}", damage

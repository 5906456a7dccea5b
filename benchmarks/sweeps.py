"""Sweeps on this machine: a process a trial, trials forked from a warm process, packs of trials, W&B's agents, and Ray.

    python -m benchmarks.sweeps [digits6|digits64|softmax24|normalization …] [--rounds R] [--variants process,packed]

Each variant runs the whole of `python -m pipelines.sweep run`, with two trials or packs at a time, in turn with the
others; `wandb` has two of W&B's agents, whose server is the tests' stand-in on loopback, and `ray` a cluster of this
machine. The first variant starts each trial as a new process; its interpreter is spelled so that no fork can take its
place. Ratios are of wall time, so the machine should be idle.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import yaml

from tests.wandb_server import WandbServer

_VARIANTS = {  # options of `pipelines.sweep run`
    "process": ["--engine", "local", "--pack", "off"],
    "warm": ["--engine", "local", "--pack", "off"],
    "packed": ["--engine", "local"],
    "wandb": ["--engine", "wandb"],
    "ray": ["--engine", "ray"],
}
_SWEEPS = Path(__file__).parents[1] / "sweeps"
_RATES = [0.001, 0.003, 0.006, 0.01, 0.02, 0.03, 0.06, 0.1]
_REGS = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0]


def sweep(name: str, root: Path) -> dict[str, Any]:
    """Returns the content of a sweep file.

    Args:
        name: digits6, the sweep of `make quickstart`; digits64, the same with 64 points; softmax24, softmax regression
            on CIFAR-10 with 24 points; normalization, the points of sweeps/normalization.yaml with batches of 64.
        root: Folder of the data sets.
    """
    digits: dict[str, Any] = yaml.safe_load((_SWEEPS / "digits.yaml").read_text())
    if name == "digits6":
        return digits
    if name == "digits64":
        digits["parameters"] |= {"optimizer.lr": {"values": _RATES}, "model.reg": {"values": _REGS}}
        return digits
    if name == "softmax24":
        content: dict[str, Any] = yaml.safe_load((_SWEEPS / "softmax.yaml").read_text())
        del content["early_terminate"], content["run_cap"]
        content["method"] = "grid"
        content["parameters"] = {
            "data.root": {"value": str(root)},
            "optimizer.lr": {"values": _RATES[:6]},
            "model.reg": {"values": _REGS[:4]},
        }
        return content
    content = yaml.safe_load((_SWEEPS / "normalization.yaml").read_text())
    content["parameters"] |= {"data.batch_size": {"value": 64}, "data.root": {"value": str(root)}}
    return content


def seconds(content: dict[str, Any], variant: str, folder: Path, pack: str = "auto", cap: str | None = None) -> float:
    """Returns the wall time of a sweep.

    Args:
        content: The sweep file.
        variant: "process" for a new process a trial, "warm" for forks, "packed" for packs, "wandb" or "ray".
        folder: Empty working folder.
        pack: Value of --pack for "packed".
        cap: Value of --run-cap; None for all points.

    Raises:
        RuntimeError: If the sweep or a trial fails.
    """
    if variant == "process":
        content = {**content, "command": ["python3" if word == "python" else word for word in content["command"]]}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    command = [sys.executable, "-m", "pipelines.sweep", "run", "sweep.yaml", "--parallel", "2", *_VARIANTS[variant]]
    command += ["--pack", pack] if variant == "packed" else []
    command += ["--run-cap", cap] if cap else []
    environment = {**os.environ, "WANDB_MODE": "offline"}
    server = WandbServer() if variant == "wandb" else None
    if server:
        environment |= {"WANDB_MODE": "online", "WANDB_BASE_URL": server.url, "WANDB_API_KEY": "a" * 40}
    start = perf_counter()
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    elapsed = perf_counter() - start
    if server:
        server.die()
    if run.returncode or "failed" in run.stdout:
        raise RuntimeError(run.stdout + run.stderr)
    return elapsed


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweeps", description=__doc__.splitlines()[0])
    names = ("digits6", "digits64", "softmax24", "normalization")
    parser.add_argument("sweeps", nargs="*", default=["digits6", "digits64", "softmax24"], metavar="|".join(names))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pack", default="auto", help="value of --pack of the packed sweep (default: auto)")
    parser.add_argument("--variants", default="process,warm,packed", help="of process, warm, packed, wandb and ray")
    parser.add_argument("--run-cap", help="largest number of trials (default: all points)")
    parser.add_argument("--root", type=Path, default=Path("data"), help="folder of CIFAR-10's files")
    options = parser.parse_args()
    for name in options.sweeps:
        variants = options.variants.split(",")
        times: dict[str, list[float]] = {variant: [] for variant in variants}
        for _ in range(options.rounds):
            for variant in variants:
                with TemporaryDirectory(prefix="sweep-") as folder:
                    content = sweep(name, options.root.resolve())
                    times[variant].append(seconds(content, variant, Path(folder), options.pack, options.run_cap))
        for variant, measured in times.items():
            ratios = [first / own for first, own in zip(times[variants[0]], measured, strict=True)]
            print(f"{name:14} {variant:8} {median(measured):7.1f} s   {median(ratios):5.2f} x", flush=True)


if __name__ == "__main__":
    main()

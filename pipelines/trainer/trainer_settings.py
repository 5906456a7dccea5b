"""Refuses arguments of the Trainer that a run does not support, before anything is written.

docs/trainer.md lists how a run treats each argument of the Trainer.
"""

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from common.errors import UserError
from common.ranges import check_range

_SHARDED = ("fsdp", "deepspeed", "FSDPStrategy", "DeepSpeedStrategy", "ModelParallelStrategy")
_SPAWNED = ("spawn", "fork", "notebook")
_NODE_VARIABLES = (
    "MASTER_ADDR",
    "NODE_RANK",
    "GROUP_RANK",
    "SLURM_NTASKS",
    "LSB_DJOB_RANKFILE",
    "OMPI_COMM_WORLD_SIZE",
)
_AT_LEAST = {  # smallest accepted value of settings for which Lightning accepts any number
    "accumulate_grad_batches": 1,
    "check_val_every_n_epoch": 1,
    "gradient_clip_val": 0,
    "log_every_n_steps": 0,
    "min_epochs": 0,
    "min_steps": 0,
    "num_sanity_val_steps": -1,
}


def check_trainer_settings(trainer: Namespace) -> None:
    """Checks the settings of the Trainer.

    Raises:
        ValueError: If a number is below its minimum, `min_*` exceeds `max_*`, or a run does not support a setting.
    """
    for name, smallest in _AT_LEAST.items():
        value = trainer[name]
        check_range(f"trainer.{name}", value, value is None or value >= smallest, f"at least {smallest}")
    interval = trainer.val_check_interval
    check_range("trainer.val_check_interval", interval, interval != 0, "at least 1 batch, or a fraction in (0, 1]")
    for unit in ("epochs", "steps"):
        least, most = trainer[f"min_{unit}"], trainer[f"max_{unit}"]
        if least is not None and most not in (None, -1) and least > most:
            raise UserError(
                f"trainer.min_{unit} is {least}, but trainer.max_{unit} is {most}; set max_{unit} to at least {least}."
            )
    if trainer.barebones:
        raise UserError(
            "trainer.barebones is true, but it allows no checkpoints, metrics or callbacks, and a run needs them; use "
            "trainer.fast_dev_run for a quick test, or benchmarks/trainer_overhead.py for the speed without them."
        )
    if trainer.model_registry is not None:
        raise UserError(
            f"trainer.model_registry is {trainer.model_registry!r}, but checkpoints are not uploaded to Lightning's "
            "registry; leave it out, and find them in the run's folder."
        )
    if (trainer.num_nodes or 1) > 1 and not any(name in os.environ for name in _NODE_VARIABLES):
        raise UserError(
            f"trainer.num_nodes is {trainer.num_nodes}, but nothing has started this process as one of several nodes; "
            "start it with torchrun or srun, as docs/cluster.md shows."
        )
    if trainer.sync_batchnorm and _several_cpus(trainer):
        raise UserError(
            "trainer.sync_batchnorm is true, but torch synchronizes batch normalization of GPUs only; leave it out."
        )
    _check_strategy(trainer.strategy)
    _check_plugins(trainer.plugins)
    if "xla" in _class_name(trainer.profiler).lower() and find_spec("torch_xla") is None:
        raise UserError(
            "trainer.profiler is xla, which needs the package torch_xla; use simple, advanced or pytorch instead."
        )
    _check_root(trainer.default_root_dir)


def _several_cpus(trainer: Namespace) -> bool:
    import torch

    on_cpu = trainer.accelerator == "cpu" or not torch.accelerator.is_available()
    return on_cpu and (str(trainer.devices) not in ("1", "auto") or int(os.environ.get("WORLD_SIZE", "1")) > 1)


def _class_name(value: Any) -> str:
    """Returns the name in a setting that is either a name or a class with its arguments."""
    path = value.get("class_path", "") if isinstance(value, Namespace) else str(value)
    return str(path).rpartition(".")[2]


def _check_strategy(strategy: Any) -> None:
    name = _class_name(strategy)
    method = strategy.get("init_args.start_method") if isinstance(strategy, Namespace) else None
    if any(part in str(method or name) for part in _SPAWNED):
        shown = f"{name} with start_method {method}" if method else name
        raise UserError(
            f"trainer.strategy is {shown}, which starts the other processes from this one in the middle of the run; "
            "use ddp, which starts the command once for each device."
        )
    if name.startswith(_SHARDED):
        raise UserError(
            f"trainer.strategy is {name}, which shards a model and its checkpoints, but a run writes each "
            "checkpoint as one file; use ddp: every model here fits on one GPU."
        )


def _check_plugins(plugins: Any) -> None:
    from pydoc import locate

    from lightning.fabric.plugins import CheckpointIO

    for plugin in _each(plugins):
        kind = locate(str(plugin.get("class_path"))) if isinstance(plugin, Namespace) else None
        if isinstance(kind, type) and issubclass(kind, CheckpointIO):
            raise UserError(
                f"trainer.plugins has {kind.__name__}, but a run writes its checkpoints itself, complete or not at "
                "all; leave it out."
            )


def _each(value: Any) -> Iterator[Any]:
    yield from value if isinstance(value, list) else [] if value is None else [value]


def _check_root(root: Any) -> None:
    """Refuses a root folder other than that of a run, which the config.yaml of every run and copies of it contain."""
    if root is None or Path(root).parent.parent.name == "logs" or (Path(root) / "config.yaml").is_file():
        return
    raise UserError(
        f"trainer.default_root_dir is {str(root)!r}, but the folder of a run is logs/TOPIC/RUN in the working folder; "
        "leave it out, and start the command in the folder that should contain logs/, or make logs a link to another "
        "disk."
    )

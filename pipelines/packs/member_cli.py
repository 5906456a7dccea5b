"""The command line of a run in a pack, which shares parser and data with those of the other runs."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.cli import _InstantiatorFn

from datamodules.loader import BatchLoader
from pipelines.packs.packed_epoch_loop import PackedEpochLoop
from pipelines.run.cli import TopicCLI
from pipelines.settings.shared_parser import SharedParser
from pipelines.tracking.wandb_options import WandbOptions


class NotPackable(Exception):
    """A run can't be in a pack and has to be started as a process; the message is the reason."""


class SharedParts:
    """What the runs of a pack share: the parser and the data.

    Attributes:
        parser: The parser.
    """

    def __init__(self) -> None:
        self.parser = SharedParser()
        self._modules: dict[str, LightningDataModule] = {}  # the last one of all settings
        self._loaders: dict[str, dict[str, Any]] = {}

    def data(self, settings: str, create: Callable[[], LightningDataModule]) -> LightningDataModule:
        """Returns a data module: a new one, or a copy of that of another run with the same settings.

        The copies share the images and what loaders keep in memory; each has loaders with a position of their own.
        """
        module = copy.copy(self._modules[settings]) if settings in self._modules else create()
        self._modules[settings] = module
        for name in ("train_dataloader", "val_dataloader"):
            setattr(module, name, _shared_loader(module, name, self._loaders.setdefault(settings, {})))
        return module


def _shared_loader(module: LightningDataModule, name: str, loaders: dict[str, Any]) -> Callable[[], Any]:
    """Returns a method that returns a copy of the loader that the first run's data module has made."""
    make = getattr(type(module), name)

    def loader() -> Any:
        if name not in loaders:
            loaders[name] = make(module)
        return copy.copy(loaders[name]) if isinstance(loaders[name], BatchLoader) else make(module)

    return loader


class PackedRun(Protocol):
    """What a command line needs of its run in the pack: see `Member`."""

    shared: SharedParts
    cli: "MemberCLI | None"
    loop: Any

    def wait(self) -> None: ...
    def forward_stop(self) -> None: ...


class MemberCLI(TopicCLI):
    """The command line of a run in a pack.

    Args:
        arguments: Command line after the program's name, with resolved paths.
        topic: Name of the folder of new runs.
        member: The run.
    """

    def __init__(self, arguments: list[str], topic: str, member: PackedRun) -> None:
        self.member = member
        member.cli = self  # from now on it can be stopped
        super().__init__(arguments, topic)

    def setup_parser(self, *arguments: Any) -> None:
        self.member.shared.parser.set_up(self, partial(super().setup_parser, *arguments))

    def _add_instantiators(self) -> None:
        super()._add_instantiators()
        own = _InstantiatorFn(cli=self, key="data")

        def instantiate(class_type: Any, *args: Any, applied_instantiation_links: Any, **kwargs: Any) -> Any:
            def create() -> Any:
                return own(class_type, *args, applied_instantiation_links=applied_instantiation_links, **kwargs)

            return self.member.shared.data(repr((class_type, args, kwargs)), create)

        self.parser.add_instantiator(instantiate, LightningDataModule, subclasses=True)

    def before_instantiate_classes(self) -> None:
        settings = self.config[self.subcommand]
        if self.subcommand != "fit" or settings["trainer.fast_dev_run"]:
            raise NotPackable("only complete runs of fit share a process")
        if settings["trainer.logger"] not in (None, True, False):
            raise NotPackable("it has loggers of its own")
        if WandbOptions(**settings["wandb"].as_dict()).to_watch:
            raise NotPackable("W&B watches the layers of its model")
        if str(settings["trainer.devices"]) not in ("auto", "1") or settings["trainer.strategy"] != "auto":
            raise NotPackable("it has several devices or a strategy of its own")
        if settings["trainer.profiler"] is not None or settings["trainer.detect_anomaly"]:
            raise NotPackable("it is profiled or searched for anomalies, which takes steps of its own")
        if settings["trainer.max_time"] is not None or any(map(_is_timer, _listed(settings["trainer.callbacks"]))):
            raise NotPackable("its time is limited, which it would share with the others")
        super().before_instantiate_classes()

    def instantiate_classes(self) -> None:
        self.member.shared.parser.read(self)
        super().instantiate_classes()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        trainer = super().instantiate_trainer(**kwargs)
        self.member.loop = PackedEpochLoop(trainer, self.member.wait)
        self.member.forward_stop()
        trainer.fit_loop.epoch_loop = self.member.loop
        return trainer


def _listed(callbacks: Any) -> list[Any]:
    return callbacks if isinstance(callbacks, list) else [callbacks]


def _is_timer(callback: Any) -> bool:
    name = callback if isinstance(callback, str) else getattr(callback, "class_path", "")
    return str(name).rpartition(".")[2] == "Timer"

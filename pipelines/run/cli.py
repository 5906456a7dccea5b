"""The command line of a run: LightningCLI with the project's defaults, run folder, tracking and summary."""

import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from jsonargparse import ArgumentError, Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import Logger

import callbacks  # noqa: F401  # so that short class names are known
import datamodules  # noqa: F401
import modules  # noqa: F401
from common.errors import UserError
from pipelines.artifacts.downloaded import is_downloaded
from pipelines.artifacts.settings import use_artifacts
from pipelines.checkpoints.already_finished import EarlyStoppingAsGiven, already_finished
from pipelines.checkpoints.best_checkpoint import BestCheckpoint
from pipelines.checkpoints.checkpoint_io import (
    AtomicCheckpointIO,
    check_weights_fit,
    kept_by_data,
    read_checkpoint,
    step_reached,
)
from pipelines.checkpoints.monitors import check_monitors
from pipelines.checkpoints.optimizer_settings import OptimizerSettings, ended_epoch
from pipelines.checkpoints.recorded_settings import (
    Changes,
    RecordedSettings,
    changes,
    check_changes,
    check_complete,
    check_model_complete,
    parse_settings,
    recorded_settings,
)
from pipelines.checkpoints.started_again import check_same_settings, print_continued, run_to_continue
from pipelines.checkpoints.training_state import check_training_state, refused_if_damaged
from pipelines.checkpoints.user_checkpoints import place_user_checkpoints
from pipelines.console.argument_errors import explain
from pipelines.console.errors import find_user_error, refused_by_library
from pipelines.console.lightning_messages import quiet
from pipelines.loggers.run_loggers import run_loggers
from pipelines.loggers.run_name import run_name
from pipelines.loggers.tracked_settings import measured_settings, tracked_settings
from pipelines.loggers.user_loggers import check_packages, listed, not_created, placed, wandb_logger_of, with_logger
from pipelines.loggers.wandb_summary import WandbSummary
from pipelines.run.config_file import Parser, SaveConfig, load_config
from pipelines.run.lifetime import FirstStep, RunLifetime
from pipelines.run.precision import PrecisionCheck, choose_precision
from pipelines.run.predict_options import PredictOptions, add_predict_options
from pipelines.run.resume import LastCheckpoint, RandomState
from pipelines.run.run_folder import RunFolder, as_typed
from pipelines.run.run_messages import (
    print_already_finished,
    print_branched,
    print_changes,
    print_fitted,
    print_metrics,
    print_precision,
    print_predicted,
    print_started,
    print_unbounded,
)
from pipelines.run.schedule_length import ScheduleLength, configure_optimizers
from pipelines.run.status import read_status
from pipelines.settings.config_check import check_values, expand_paths
from pipelines.settings.linked_settings import LINKED, linked_setting
from pipelines.tracking.metrics_csv import MetricsCSV
from pipelines.tracking.wandb_options import RunLabels, WandbOptions
from pipelines.tracking.wandb_run import watch
from pipelines.trainer.log_interval import LogInterval
from pipelines.trainer.outcome import print_fast_dev_run, print_outcome
from pipelines.trainer.refused_while_running import refused_while_running
from pipelines.trainer.trainer_callbacks import AccumulationCheck, MonitorCheck, user_callbacks, with_progress_bar
from pipelines.trainer.trainer_settings import check_trainer_settings


def run(arguments: list[str], topic: str) -> "TopicCLI":
    """Runs a resolved command line.

    Raises:
        ValueError: If an argument is unknown or a value is out of range.
    """
    quiet()
    return TopicCLI(arguments, topic)


class TopicCLI(LightningCLI):
    """One run of one topic.

    Args:
        arguments: Command line after the program's name, with resolved paths.
        topic: Name of the folder of new runs.
    """

    def __init__(self, arguments: list[str], topic: str) -> None:
        self.topic = topic
        self._command = arguments[0]
        self.run_folder: RunFolder | None = None
        self.subcommand: str | None = None
        self.arguments = arguments
        self.resumed: dict[str, Any] | None = None  # checkpoint that `fit` resumes from
        self.kept: dict[str, list[str]] = {}  # vocabulary or class names in a checkpoint, whose data may be gone
        self.continued: RunFolder | None = None  # that a `fit` goes on with because it has the id of this command
        self.resolved = ""  # configuration of a `fit` as YAML
        self.changes: Changes | None = None  # settings that differ from those of that checkpoint, if it tells
        self.trainer: Any = None
        self.lifetime = RunLifetime()
        with self.lifetime.ended_properly():
            super().__init__(
                model_class=None,
                datamodule_class=None,
                save_config_callback=SaveConfig,
                save_config_kwargs={"save_to_log_dir": False},
                trainer_defaults={
                    "enable_progress_bar": sys.stdout.isatty(),  # it is written there
                    "enable_model_summary": False,
                    "num_sanity_val_steps": 0,  # pipelines.check tests a model before training
                },
                seed_everything_default=0,
                parser_class=Parser,
                args=arguments,
            )

    configure_optimizers = staticmethod(configure_optimizers)  # type: ignore[assignment]

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Returns the command that is run, alone: the parsers of the others would take half a second to build."""
        return {name: skipped for name, skipped in super().subcommands().items() if name == self._command}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        for name in LINKED:
            # Linked to the whole data module: a link to a missing attribute would build and print all its loaders.
            attribute = partial(self._attribute_of_data, name)
            attribute.__name__ = name  # type: ignore[attr-defined]  # for the help
            parser.link_arguments("data", f"model.init_args.{name}", attribute, apply_on="instantiate")
        parser.add_lightning_class_args(BestCheckpoint, "checkpoint")
        defaults = {"filename": "best", "monitor": "val/accuracy", "mode": "max", "enable_version_counter": False}
        parser.set_defaults({f"checkpoint.{name}": value for name, value in defaults.items()})
        parser.add_lightning_class_args(LastCheckpoint, "last_checkpoint")
        parser.add_class_arguments(WandbOptions, "wandb")
        for action in parser._actions:
            if action.dest == "trainer.logger":
                action.help = "Loggers in place of W&B, such as TensorBoardLogger; false for none."

    def _attribute_of_data(self, name: str, data: Any) -> Any:
        """Returns the value of a setting that the model takes from its data."""
        settings = self.config[self.subcommand]
        model, given = settings["model.class_path"], settings.get(f"model.init_args.{name}")
        if data is None:
            raise UserError("There is no data set; set --data to a class, such as CIFAR10.")
        for kept, names in self.kept.items():
            if hasattr(type(data), kept):
                setattr(data, kept, names)
        return linked_setting(name, data, model, given)

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if "verbose" in self._subcommand_method_arguments[subcommand]:
            parser.set_defaults({"verbose": False})  # `print_metrics` prints the results
        if "weights_only" in self._subcommand_method_arguments[subcommand]:
            parser.set_defaults({"weights_only": True})
        if subcommand == "predict":
            add_predict_options(parser)
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        try:
            self.config = parser.parse_args(args)
        except ArgumentError as error:
            raise UserError(explain(str(error), self._options(args[0]), args)) from None
        expand_paths(self.config[args[0]])
        use_artifacts(self.config[args[0]])
        check_values(self.config[args[0]], args, LINKED)
        self.precision_changed = choose_precision(self.config[args[0]].trainer, args)

    def _options(self, subcommand: str) -> set[str]:
        parser = self._subcommand_parsers.get(subcommand)
        actions = parser._actions if parser else []
        return {option.lstrip("-") for action in actions for option in action.option_strings}

    def _parse_ckpt_path(self) -> None:
        """Does nothing: config.yaml describes the model, and settings on the command line override it."""

    def before_instantiate_classes(self) -> None:
        settings: Namespace = self.config[self.subcommand]
        check_trainer_settings(settings["trainer"])
        check_packages(settings["trainer.logger"])
        if self.subcommand == "fit" and not settings["ckpt_path"] and not self._fast_dev_run():
            self.continued = run_to_continue(self.topic)
            settings["ckpt_path"] = str(self.continued.last) if self.continued else None
        config = settings.get("ckpt_path")
        checkpoint = Path(config) if config else None
        existing = RunFolder.of_checkpoint(checkpoint) if checkpoint else None
        if self.subcommand == "fit" and checkpoint:
            self.resumed = read_checkpoint(checkpoint)
            check_training_state(self.resumed, checkpoint)
        if self._fast_dev_run():  # a quick test writes nothing, least of all into the folder of a run
            self.scratch = TemporaryDirectory(prefix="fast-dev-run-", ignore_cleanup_errors=True)
            settings["trainer.default_root_dir"] = self.scratch.name
        else:
            self.run_folder = self._own_folder(existing, checkpoint)
        if self.run_folder is not None:
            settings["trainer.default_root_dir"] = str(self.run_folder.path)
        for name in ("checkpoint", "last_checkpoint"):
            given = settings[f"{name}.dirpath"]
            if given is not None and Path(given).name != "checkpoints":  # which the config.yaml of a run says
                raise UserError(
                    f"{name}.dirpath is {given}, but a run keeps its checkpoints in its own folder; leave it out, "
                    "or make logs a link to another disk."
                )
            folder = self.scratch.name if self._fast_dev_run() else self.run_folder and self.run_folder.checkpoints
            if folder:
                settings[f"{name}.dirpath"] = str(folder)
        if self.subcommand == "fit":
            self.resolved = self._resolved_config()
            if self.resumed is not None:
                self.changes = self._check_resumed(self.resumed, existing)
            if self.run_folder is not None:
                self.lifetime.start(self.run_folder)
        if self.subcommand == "predict":
            self.kept = kept_by_data(read_checkpoint(checkpoint)) if checkpoint else {}
            kept = [*([checkpoint] if checkpoint else []), *(existing.files_to_keep() if existing else [])]
            self.predict_options = PredictOptions(settings, kept)

    def _own_folder(self, existing: RunFolder | None, checkpoint: Path | None) -> RunFolder | None:
        """Returns the folder that this command writes in, None if it writes in none."""
        if self.subcommand != "fit":
            return existing
        if existing is None or is_downloaded(existing.path):
            return RunFolder.new(self.topic)
        assert checkpoint is not None and self.resumed is not None
        reached = step_reached(existing, checkpoint)
        step = self.resumed.get("global_step", 0)
        if reached is None or reached <= step:
            return existing
        print_branched(checkpoint, step, existing, reached)
        return RunFolder.new(self.topic)

    def _check_resumed(self, checkpoint: dict[str, Any], run: RunFolder | None) -> Changes | None:
        """Returns the settings that have changed since the checkpoint, None if it does not tell.

        Raises:
            ValueError: If a resumed run can't follow one of them, or its config.yaml is incomplete.
        """
        recorded = recorded_settings(checkpoint, run)
        if recorded is None:
            return None
        current = parse_settings(self.resolved)
        if (configured := self._configured_run(run)) is not None:
            check_complete(configured.config, recorded, current, self._given())
        changed = changes(recorded, current)
        if self.continued is not None:
            check_same_settings(self.continued, changed)
            print_continued(self.continued, checkpoint["global_step"])
        check_changes(changed, mid_epoch=not ended_epoch(checkpoint))
        return changed

    def _configured_run(self, run: RunFolder | None) -> RunFolder | None:
        """Returns the run if its own config.yaml is the configuration of this command."""
        return run if run is not None and str(run.config) in self.arguments else None

    def _given(self) -> list[str]:
        """Returns the names of the settings on the command line."""
        return [argument.partition("=")[0].removeprefix("--") for argument in self.arguments]

    def _resolved_config(self) -> str:
        config: Namespace = self.config[self.subcommand].clone()
        config.pop("ckpt_path", None)
        parser = self._subcommand_parsers[str(self.subcommand)]
        return str(parser.dump(config, skip_unset=False, skip_validation=True))

    def instantiate_classes(self) -> None:
        configured, settings = self.config, self.config[self.subcommand]
        sources = [key for key in ("pretrained", "checkpoint") if settings.get(f"model.init_args.{key}")]
        if settings.get("ckpt_path") and sources:
            # The checkpoint has all weights; the file or hub that they first came from may be gone.
            self.config = configured.clone()
            for key in sources:
                self.config[f"{self.subcommand}.model.init_args.{key}"] = None
        if listed(own := settings["trainer.logger"]):
            self.config = self.config.clone()
            self.config[f"{self.subcommand}.trainer.logger"] = (
                placed(own, self.run_folder.path, self._labels) if self.run_folder and self._tracks else False
            )
        try:
            super().instantiate_classes()
        except Exception as error:
            reason = find_user_error(error) or not_created(error) or refused_by_library(error, self.arguments)
            if reason is None:
                raise
            raise UserError(reason) from error  # jsonargparse hides it in a long report
        for callback in self.trainer.callbacks if self.trainer is not None else []:
            if isinstance(callback, SaveConfig):
                callback.config = configured[self.subcommand]
        self.config = configured
        if self.subcommand == "predict":
            self.predict_options.apply(self.datamodule)

    def _instantiate_trainer(self, config: dict[str, Any], checkpoints: list[Callback]) -> Trainer:
        trainer: Any = super()._instantiate_trainer(
            config, checkpoints if config.get("enable_checkpointing", True) in (True, None) else []
        )
        if self.run_folder is not None:
            place_user_checkpoints(trainer.callbacks, self.run_folder.checkpoints)
        return cast(Trainer, trainer)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        settings = self._get(self.config_init, "trainer")
        added = user_callbacks(settings["callbacks"], self.model, settings)
        hidden = "--trainer.enable_progress_bar false" in " ".join(self.arguments).replace("=", " ").lower()
        added, bar = with_progress_bar(added, settings["enable_progress_bar"], hidden)
        trainer: Any = super().instantiate_trainer(
            logger=False,
            callbacks=added,
            enable_progress_bar=bar,
            **kwargs,  # `_run_subcommand` adds the loggers
        )
        precision = PrecisionCheck(str(settings["precision"]))
        if settings["log_every_n_steps"] is None:
            trainer.callbacks.append(LogInterval())
        trainer.callbacks += [precision, MonitorCheck(), AccumulationCheck(), RandomState(), ScheduleLength()]
        trainer.callbacks.append(self.lifetime.signals)
        trainer.callbacks.insert(0, FirstStep(self._begin))  # before the first checkpoint
        if self.subcommand == "fit":
            trainer.callbacks += [RecordedSettings(self.resolved), OptimizerSettings(self.changes)]
            trainer.callbacks.append(EarlyStoppingAsGiven())
            monitored = self._get(self.config, "checkpoint")
            best = str(as_typed(self.run_folder.best)) if self.run_folder else ""
            trainer.callbacks.append(WandbSummary(monitored["monitor"], monitored["mode"], best))
        writes = bool(trainer.checkpoint_callbacks) and not self._fast_dev_run()
        if self.subcommand == "fit" and self.run_folder is not None and writes:
            self.lifetime.signals.checkpoint = self.run_folder.last
        if self.subcommand == "predict" and not self._fast_dev_run():
            trainer.callbacks.append(self.predict_options.predictions)
        if self._fast_dev_run() and self.resumed is not None:  # so many steps more, not from the start of the run
            trainer.fit_loop.max_epochs = -1
            trainer.fit_loop.epoch_loop.max_steps += self.resumed.get("global_step", 0)
        trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        self.lifetime.trainer = trainer
        return trainer

    def _begin(self, trainer: Trainer) -> None:
        """Replaces what the previous attempt at the run left by what this one does, after its first step."""
        self.lifetime.begin()
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, SaveConfig):
                callback.write(trainer)
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCSV):
                logger.begin()
            elif isinstance(logger, WandbLogger) and trainer.is_global_zero:
                changed = tracked_settings(self._dumped_config()) if self.resumed is not None else {}
                settings = changed | measured_settings(trainer, self.datamodule)
                logger.experiment.config.update(settings, allow_val_change=True)

    @property
    def _tracks(self) -> bool:
        return self.subcommand in ("fit", "test") and not self._fast_dev_run()

    def _loggers(self) -> list[Logger]:
        if not self._tracks or self.run_folder is None:
            return []
        # A new run in the folder of one without a checkpoint has no rows to keep.
        resume_step = self.resumed["global_step"] if self.resumed else 0 if self.subcommand == "fit" else None
        configured = self._get(self.config_init, "trainer")["logger"]
        beside = self.subcommand == "test" and read_status(self.run_folder.path).state == "running"
        config, options = self._tracked_config, self.wandb_options
        return run_loggers(self.run_folder.path, configured, resume_step, config, options, self._labels, beside)

    @property
    def wandb_options(self) -> WandbOptions:
        """The run's settings on W&B: the keys `wandb.*`, and those of a WandbLogger of the user's."""
        configured = self._get(self.config_init, "trainer")["logger"]
        return with_logger(self._get(self.config_init, "wandb"), wandb_logger_of(configured))

    @property
    def _labels(self) -> RunLabels:
        data = str(self._get(self.config, "data")["class_path"]).rpartition(".")[2]
        return RunLabels(self.topic, run_name(self.topic, data, self.arguments), (self.topic, data))

    def _tracked_config(self) -> dict[str, Any]:
        """Returns what W&B records: the settings of the run's training, which a test or a failed resume changes not."""
        assert self.run_folder is not None
        if self.run_folder.config.is_file():
            return dict(load_config(self.run_folder.config.read_text(), str(self.run_folder.config)))
        return self._dumped_config()

    def _dumped_config(self) -> dict[str, Any]:
        self._dump_config()
        return dict(self.config_dump)

    def _fast_dev_run(self) -> bool:
        return bool(self._get(self.config, "trainer")["fast_dev_run"])

    def _run_subcommand(self, subcommand: str) -> None:
        checkpoint = self._get(self.config, "ckpt_path")
        if checkpoint:
            stored = self.resumed or read_checkpoint(Path(checkpoint))
            if subcommand != "fit":
                check_model_complete(stored, self._configured_run(self.run_folder), self._given())
            check_weights_fit(stored, self.model, Path(checkpoint))
            if subcommand == "test":  # its metrics belong to the step and epoch of the checkpoint, not to step 0
                self.trainer.fit_loop.epoch_loop._batches_that_stepped = stored["global_step"]
                self.trainer.fit_loop.epoch_progress.current.completed = stored["epoch"]
        finished = already_finished(self.resumed, self.trainer) if self.resumed else None
        if finished is not None:
            print_already_finished(finished, self.trainer, Path(checkpoint))
            return
        if subcommand == "fit" and not self._fast_dev_run():
            class_names = getattr(self.datamodule, "class_names", ())
            check_monitors(self.model, self.trainer, self._get(self.config, "lr_scheduler"), class_names)
        seed = self._get(self.config, "seed_everything")
        print_started(subcommand, self.model, self.datamodule, self.trainer, seed, self.run_folder)
        print_precision(self.precision_changed)
        if subcommand == "fit":
            print_unbounded(self._get(self.config, "trainer"))
        print_changes(self.changes)
        if loggers := self._loggers():  # after all checks, so that a command that is refused is not tracked
            self.trainer.loggers = loggers
            self.lifetime.alerts = self.wandb_options.alerts
            watched = self.wandb_options.to_watch
            if subcommand == "fit" and watched:
                watch(loggers, self.model, watched, self.trainer.log_every_n_steps)
        with refused_while_running(self.trainer), refused_if_damaged(Path(checkpoint) if checkpoint else None):
            super()._run_subcommand(subcommand)
        if self._fast_dev_run():
            print_fast_dev_run(self.trainer, subcommand)

    def after_fit(self) -> None:
        """Prints the result and the next commands."""
        if self.run_folder is not None:
            print_outcome(self.trainer, self.resumed["global_step"] if self.resumed else 0)
            print_fitted(self.model, self.trainer, self.run_folder)

    def after_test(self) -> None:
        """Prints the metrics."""
        print_metrics(self.trainer, "test/")

    def after_validate(self) -> None:
        """Prints the metrics."""
        print_metrics(self.trainer, "val/")

    def after_predict(self) -> None:
        """Prints the file of the predictions."""
        if not self._fast_dev_run():
            print_predicted(self.predict_options.predictions)

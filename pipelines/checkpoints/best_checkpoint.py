"""The best checkpoints of a run by a metric; `best.ckpt` is always the best of them.

Lightning's ModelCheckpoint keeps one file with a fixed name, or k files with changing names. Here `best.ckpt` exists in
either case: with k files it is a link to the best of them. A checkpoint is ranked only by a metric of its own weights,
never by one of an earlier validation.
"""

import os
import shutil
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor

from common.atomic_files import atomic_write
from common.errors import UserError
from pipelines.tracking.metric_goals import known_mode

_BEST, _SEVERAL = "best", "{epoch}-{step}"


class BestCheckpoint(ModelCheckpoint):
    """A ModelCheckpoint whose best file is `best.ckpt`, whatever `filename` and `save_top_k` are.

    `LastCheckpoint` writes `last.ckpt`, so `save_last` has no effect.

    Attributes:
        best_figures: Step and epoch of `best.ckpt`, and the validation metrics of its weights, such as {"step": 400,
            "epoch": 3, "val/accuracy": 0.69}; empty as long as there is none.

    Raises:
        ValueError: If two checkpoints would have the same name, `mode` contradicts the metric, or a checkpoint would be
            written between validations but ranked by a validation metric.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.save_last = None
        self.best_figures: dict[str, float] = {}
        self._validated_step = -1  # step of the last validation
        if self.save_top_k not in (0, 1):
            if self.filename in (None, _BEST):
                self.filename = _SEVERAL
            elif "{" not in self.filename:
                raise UserError(
                    f"checkpoint.filename is {self.filename!r} for each of the {self.save_top_k} checkpoints that "
                    "checkpoint.save_top_k keeps; add {epoch} or {step} to it, or leave it out."
                )
            self._enable_version_counter = True
        if self.filename == "last":
            raise UserError("checkpoint.filename is 'last', the newest checkpoint's name; choose another name.")
        self._check_metric()

    def _check_metric(self) -> None:
        if self.monitor is None or self.save_top_k == 0:
            return
        mode = known_mode(self.monitor)
        if mode is not None and mode != self.mode:
            better = "smaller" if mode == "min" else "larger"
            raise UserError(
                f"checkpoint.mode is {self.mode}, but {self.monitor} is better the {better} it is; set "
                f"checkpoint.mode to {mode}."
            )
        between = "every_n_train_steps" if self._every_n_train_steps else "train_time_interval"
        if self._validation_metric and (self._every_n_train_steps or self._train_time_interval is not None):
            raise UserError(
                f"checkpoint.{between} saves between validations, but {self.monitor} is then that of earlier weights; "
                "set trainer.val_check_interval to validate more often, or set "
                f"last_checkpoint.{between} for a newer last.ckpt."
            )

    @property
    def _validation_metric(self) -> bool:
        return self.monitor is not None and self.monitor.startswith("val")

    @property
    def state_key(self) -> str:
        """Key of the callback's state, independent of its settings, so that a run resumed with others restores it."""
        return type(self).__qualname__

    def state_dict(self) -> dict[str, Any]:
        """Returns the scores and files of the best checkpoints, and the figures of the best."""
        return {**super().state_dict(), "mode": self.mode, "best_figures": self.best_figures}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Renames the state that version 0.1 stored under the name of Lightning's class."""
        states = checkpoint["callbacks"]
        for key, state in list(states.items()):
            if key.startswith("ModelCheckpoint{") and Path(state["best_model_path"]).stem == _BEST:
                states.setdefault(self.state_key, state)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the best checkpoints so far, also from a moved folder; discards them if the metric has changed."""
        if (state_dict["monitor"], state_dict.get("mode", self.mode)) != (self.monitor, self.mode):
            _print(f"best.ckpt: from this step on chosen by {self.monitor}, no longer by {state_dict['monitor']}.")
            return
        folder = Path(self.dirpath or ".")
        ranked = {folder / Path(path).name: score for path, score in state_dict["best_k_models"].items()}
        ranked = {path: score for path, score in ranked.items() if path.is_file()}
        best = folder / f"{_BEST}{self.FILE_EXTENSION}"
        if self.filename == _BEST:
            ranked = {best: state_dict["best_model_score"]} if best.is_file() and ranked else {}
        elif best in ranked:  # now one of several
            earlier = best.with_stem("earlier-best")
            _link(best, earlier)
            ranked[earlier] = ranked.pop(best)
        order = sorted(ranked, key=lambda path: float(ranked[path]), reverse=self.mode == "max")
        kept = order if self.save_top_k == -1 else order[: self.save_top_k]
        self.best_k_models = {str(path): ranked[path] for path in kept}
        if kept:
            self.best_model_path, self.best_model_score = str(kept[0]), ranked[kept[0]]
            self.kth_best_model_path, self.kth_value = str(kept[-1]), ranked[kept[-1]]
            self.best_figures = dict(state_dict.get("best_figures", {}))

    def format_checkpoint_name(self, *args: Any, **kwargs: Any) -> str:
        """Returns the path for a name with metrics, without a folder `val` for `val/accuracy`."""
        path = super().format_checkpoint_name(*args, **kwargs)
        folder = Path(self.dirpath or "")
        return str(folder / str(Path(path).relative_to(folder)).replace("/", "_"))

    def file_exists(self, filepath: Any, trainer: Trainer) -> bool:
        """Returns whether a kept checkpoint has the name; one left by a killed run is replaced."""
        return str(filepath) in self.best_k_models

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validated_step = trainer.global_step
        super().on_validation_end(trainer, pl_module)

    def _save_topk_checkpoint(self, trainer: Trainer, monitor_candidates: dict[str, Tensor]) -> None:
        if (
            self._validation_metric
            and self.monitor in monitor_candidates
            and self._validated_step != trainer.global_step
        ):
            return  # the metric is of earlier weights
        if str(self.monitor).startswith(("train/", "health/")) and self.monitor not in monitor_candidates:
            return  # not logged yet, since an epoch is shorter than log_every_n_steps
        super()._save_topk_checkpoint(trainer, monitor_candidates)

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        if filepath == self.best_model_path:  # before it is written, since it has this state too
            own = {name: value for name, value in trainer.callback_metrics.items() if self._is_of_best(name)}
            self.best_figures = {"step": trainer.global_step, "epoch": trainer.current_epoch}
            self.best_figures |= {name: float(value) for name, value in own.items()}
        super()._save_checkpoint(trainer, filepath)
        best = Path(filepath).with_name(f"{_BEST}{self.FILE_EXTENSION}")
        if filepath == self.best_model_path and Path(filepath) != best:
            _link(Path(filepath), best)

    def _is_of_best(self, metric: str) -> bool:
        return metric == self.monitor or metric.startswith("val/")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Writes `exception.ckpt` if `save_on_exception` is set, instead of replacing `best.ckpt`."""
        dry_run = trainer.fast_dev_run  # type: ignore[attr-defined]
        if self.save_on_exception and not dry_run and trainer.global_step > 0:
            trainer.save_checkpoint(
                Path(self.dirpath or ".") / f"exception{self.FILE_EXTENSION}", self.save_weights_only
            )


@rank_zero_only
def _link(file: Path, link: Path) -> None:
    """Makes `link` a hard link to a file, or a copy of it on a file system without hard links."""
    with atomic_write(link) as temporary:
        try:
            temporary.unlink()
            os.link(file, temporary)
        except OSError:
            shutil.copyfile(file, temporary)


@rank_zero_only
def _print(message: str) -> None:
    print(message)

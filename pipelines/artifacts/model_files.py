"""Sends best.ckpt and last.ckpt of a run to W&B as one artifact, with the aliases `best` and `last`.

Both files are in each version, so that both aliases are at the newest one and always right; Lightning's own
`log_model` makes an artifact of each file and gives them the alias `best` alike. With its config.yaml a version is all
that the other commands need of a run.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.checkpoints.checkpoint_io import read_checkpoint
from pipelines.loggers.tracked_settings import commit
from pipelines.run.run_folder import RunFolder
from pipelines.syncing.server import settings_of


@dataclass
class ModelFiles:
    """The checkpoints of a run that W&B gets.

    Args:
        folder: Folder of the run.
        each: Whether W&B gets a version at the end of each epoch too.
    """

    folder: Path
    each: bool = False
    _sent: tuple[int, ...] = ()  # sizes and times of the files in the last version

    def log(self, run: Any) -> None:
        """Hands the checkpoints to a W&B run as a new version, unless they are those of the last one.

        W&B's client sends them in the background; offline it keeps a copy, which `compare upload` sends.
        """
        kept = RunFolder(self.folder)
        checkpoints = [file for file in (kept.best, kept.last) if file.is_file()]
        state = tuple(number for file in checkpoints for number in (file.stat().st_size, file.stat().st_mtime_ns))
        if not checkpoints or state == self._sent or not kept.config.is_file():
            return
        self._sent = state
        import wandb

        artifact = wandb.Artifact(f"model-{run.id}", type="model", metadata=_metadata(kept, checkpoints))
        for file in (kept.config, *checkpoints):
            artifact.add_file(str(file), name=file.name)  # a copy of it, since training may replace the file
        run.log_artifact(artifact, aliases=[file.stem for file in checkpoints])


def _metadata(run: RunFolder, checkpoints: list[Path]) -> dict[str, Any]:
    """Returns what the versions of a model are told apart by: metric, steps, settings and commit."""
    stored = {file.stem: read_checkpoint(file) for file in checkpoints}
    newest = stored[checkpoints[-1].stem]
    ranking = (newest.get("callbacks") or {}).get("BestCheckpoint") or {}
    score = ranking.get("best_model_score")
    return {
        "topic": run.topic,
        "run_id": run.run_id,
        "monitor": ranking.get("monitor"),
        "mode": ranking.get("mode"),
        "score": None if score is None else float(score),
        **{f"{name}_step": checkpoint["global_step"] for name, checkpoint in stored.items()},
        **{f"{name}_epoch": checkpoint["epoch"] for name, checkpoint in stored.items()},
        "commit": commit(),
        "settings": settings_of(run.path),
    }

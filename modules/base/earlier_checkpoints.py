"""Lets `load_from_checkpoint` read the settings of checkpoints that an earlier version wrote."""

from io import BytesIO
from pathlib import Path
from typing import Any, Self

import lightning as L
import torch

from common.checked_tensors import load_checked
from common.earlier_names import current_settings


class EarlierCheckpoints(L.LightningModule):
    """A LightningModule whose checkpoints may hold settings under the names of an earlier version."""

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **kwargs: Any) -> Self:
        """Builds a module from a checkpoint, as Lightning does, with every setting under its name of today."""
        if isinstance(checkpoint_path, str | Path) and Path(checkpoint_path).is_file():
            checkpoint = load_checked(Path(checkpoint_path))
            settings = checkpoint.get(cls.CHECKPOINT_HYPER_PARAMS_KEY, {})
            current = current_settings(cls.__name__, settings)
            if current != settings:
                checkpoint[cls.CHECKPOINT_HYPER_PARAMS_KEY] = current
                checkpoint_path = BytesIO()
                torch.save(checkpoint, checkpoint_path)
                checkpoint_path.seek(0)
        return super().load_from_checkpoint(checkpoint_path, *args, **kwargs)

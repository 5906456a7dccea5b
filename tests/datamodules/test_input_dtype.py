"""Inputs reach the model in the dtype of the Trainer's precision, and unconverted without a Trainer."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from datamodules import Digits, ShapeCaptions
from modules import CaptionRNN, SoftmaxRegression


class InputDtypes(L.Callback):
    """Dtypes of the inputs of all training and validation batches."""

    def __init__(self) -> None:
        self.dtypes: set[torch.dtype] = set()

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Any, index: int) -> None:
        self.dtypes.add(batch[0].dtype)

    def on_validation_batch_start(
        self, trainer: L.Trainer, module: L.LightningModule, batch: Any, index: int, loader: int = 0
    ) -> None:
        self.dtypes.add(batch[0].dtype)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("32-true", torch.float32), ("64-true", torch.float64), ("bf16-true", torch.bfloat16)]
)
@pytest.mark.parametrize("topic", ["images", "captions"])
def test_inputs_have_the_dtype_of_the_precision(topic: str, precision: Any, dtype: torch.dtype, tmp_path: Path) -> None:
    data: Any
    model: Any
    if topic == "images":
        data = Digits(batch_size=32)
        model = SoftmaxRegression(data.input_shape, data.num_classes)
    else:
        data = ShapeCaptions(num_train=20, num_test=10, batch_size=10)
        model = CaptionRNN(data.input_shape, data.vocabulary, width=8, channels=[4, 4])
    used = InputDtypes()
    trainer = L.Trainer(
        max_steps=1, precision=precision, accelerator="cpu", logger=False, callbacks=[used], enable_progress_bar=False,
        enable_checkpointing=False, enable_model_summary=False, limit_val_batches=1, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(model, data)
    assert used.dtypes == {dtype}


def test_inputs_are_not_converted_without_a_trainer() -> None:
    data = Digits(batch_size=32)
    data.setup("fit")
    assert data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)[0].dtype == torch.float32

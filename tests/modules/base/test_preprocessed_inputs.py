"""Batches that no data module preprocessed: the same sentence from a trainer and from a plain loop."""

from pathlib import Path

import pytest
import torch

from common.errors import UserError
from datamodules import Digits
from modules import GAN, KNearestNeighbors, SoftmaxRegression
from tests.helpers import trainer_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning:lightning")


def softmax_and_data() -> tuple[SoftmaxRegression, Digits]:
    data = Digits(batch_size=32)
    data.setup("fit")
    return SoftmaxRegression(data.input_shape, data.num_classes), data


@pytest.mark.parametrize("command", ["fit", "validate", "predict"])
def test_a_trainer_that_got_the_loader_alone(tmp_path: Path, command: str) -> None:
    model, data = softmax_and_data()
    trainer = trainer_of(tmp_path, max_steps=1)
    with pytest.raises(UserError, match=r"SoftmaxRegression got images as uint8.*trainer.fit\(model, data\)"):
        getattr(trainer, command)(model, data.train_dataloader())


def test_a_plain_loop_over_the_loader() -> None:
    model, data = softmax_and_data()
    batch = next(iter(data.train_dataloader()))
    with pytest.raises(UserError, match="SoftmaxRegression got images as uint8"):
        model(batch[0])
    assert model(data.on_after_batch_transfer(batch, 0)[0]).shape == (32, 10)


def test_a_training_step_that_calls_no_forward(tmp_path: Path) -> None:
    data = Digits(batch_size=32)
    data.setup("fit")
    with pytest.raises(UserError, match="GAN got images as uint8"):
        trainer_of(tmp_path, max_steps=1).fit(GAN(data.input_shape), data.train_dataloader())


def test_pixels_are_for_models_that_take_them(tmp_path: Path) -> None:
    data = Digits(batch_size=32, preprocessing="pixels")
    trainer_of(tmp_path, max_steps=1).fit(KNearestNeighbors((1, 8, 8), 10), data)
    with pytest.raises(UserError, match="choose a preprocessing other than pixels"):
        trainer_of(tmp_path, max_steps=1).fit(SoftmaxRegression((1, 8, 8), 10), Digits(preprocessing="pixels"))
    with pytest.raises(UserError, match="uint8"):
        SoftmaxRegression((1, 8, 8), 10)(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))

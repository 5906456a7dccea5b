"""Lightning's model summary sends a model's `example_input_array` through the data module's hooks."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ModelSummary, RichModelSummary
from lightning.pytorch.utilities.model_summary import summarize

from datamodules import Digits, ShapeCaptions
from modules import FullyConnectedNet, SoftmaxRegression
from tests.helpers import trainer_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning:lightning")


@pytest.mark.parametrize("summary", [ModelSummary, RichModelSummary])
@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-true"])
def test_a_model_summary_in_every_precision(tmp_path: Path, precision: str, summary: type[ModelSummary]) -> None:
    model = FullyConnectedNet((1, 8, 8), 10, [16])
    trainer = trainer_of(tmp_path, summary(), max_steps=1, precision=precision)
    trainer.fit(model, Digits(batch_size=32))
    assert summarize(model).total_parameters == sum(parameter.numel() for parameter in model.parameters())


def test_the_example_is_not_preprocessed_again() -> None:
    data = Digits()
    data.setup("fit")
    example = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(data.on_after_batch_transfer(example, 0), example, rtol=0, atol=0)
    torch.testing.assert_close(ShapeCaptions().on_after_batch_transfer(example, 0), example, rtol=0, atol=0)


def test_the_summary_knows_sizes(tmp_path: Path) -> None:
    model = SoftmaxRegression((1, 8, 8), 10)
    trainer_of(tmp_path, ModelSummary(), max_steps=1).fit(model, Digits(batch_size=32))
    assert summarize(model).out_sizes[-1] == [1, 10]

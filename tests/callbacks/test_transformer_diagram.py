"""The diagram of a Transformer: its blocks have the shapes and all the parameters of the model that is drawn."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from callbacks import TransformerDiagram
from callbacks.transformer_blocks import transformer_blocks
from callbacks.transformer_diagram import transformer_diagram
from datamodules import ShapeCaptions
from modules import CaptionLSTM, CaptionTransformer
from tests.helpers import trainer_of
from tests.modules.captioning.captioning import WORDS

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning:lightning")

SETTINGS: dict[str, Any] = {"width": 16, "num_layers": 3, "num_heads": 2, "channels": (4, 8)}


@pytest.mark.parametrize("encoder_layers", [0, 2])
@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("tied", [True, False])
def test_the_blocks_have_all_parameters_of_the_model(encoder_layers: int, norm: Any, tied: bool) -> None:
    model = CaptionTransformer(
        (3, 16, 24), WORDS, encoder_layers=encoder_layers, norm=norm, tie_embeddings=tied, **SETTINGS
    )
    encoder, decoder = transformer_blocks(model, torch.zeros(2, 3, 16, 24), torch.ones(2, 5, dtype=torch.long))
    counted = sum(block.parameters * (encoder_layers if block.repeated else 1) for block in encoder)
    counted += sum(block.parameters * (3 if block.repeated else 1) for block in decoder)
    assert counted == sum(parameter.numel() for parameter in model.parameters())
    assert encoder[0].shape == "(B, 3, 16, 24)" and encoder[1].text.endswith("grid of 4 × 6")
    assert {block.shape for block in encoder[1:]} == {"(B, 24, 16)"}
    assert [block.shape for block in decoder] == ["(B, T)", *["(B, T, 16)"] * (len(decoder) - 2), "(B, T, 12)"]
    kinds = [block.kind for block in decoder if block.repeated]
    pair = ["norm", "attention"] if norm == "pre" else ["attention", "norm"]
    assert kinds[:4] == pair * 2 and kinds[4 + (norm == "pre")] == "feed-forward"
    texts = [block.text for block in (*encoder, *decoder) if block.kind == "attention"]
    assert texts == [
        *["self-attention, 2 heads of 8"] * bool(encoder_layers),
        "causal self-attention, 2 heads of 8",
        "cross-attention, 2 heads of 8",
    ]
    picture = transformer_diagram(model, encoder, decoder)
    orange = (np.abs(picture.astype(int) - (255, 226, 187)) < 4).all(2)
    assert orange.mean() > 0.005 * len(texts)  # a box each


def test_a_run_draws_it_once_before_its_first_step(tmp_path: Path) -> None:
    data = ShapeCaptions(num_train=40, num_test=10, batch_size=12)
    model = CaptionTransformer(data.input_shape, data.vocabulary, **SETTINGS)
    trainer = trainer_of(tmp_path, TransformerDiagram(), max_epochs=2, limit_val_batches=0)
    trainer.fit(model, data)
    assert [file.name for file in (tmp_path / "pictures" / "structure").iterdir()] == ["00000000.png"]
    assert model.training


def test_a_model_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="CaptionLSTM is not a Transformer captioner; remove"):
        TransformerDiagram().setup(trainer_of(Path(), max_epochs=1), CaptionLSTM((4, 6), WORDS, width=8), "fit")

"""Pictures of self-attention: the mask is visible, the query is marked, and a run draws them at its end."""

from pathlib import Path

import numpy as np
import pytest
import torch

from callbacks import SelfAttentionMaps, self_attention_maps
from callbacks.attention_pictures import contrast_position, image_attention_sheet, word_attention_sheet
from datamodules import ShapeCaptions
from modules import CaptionLSTM, CaptionTransformer
from tests.callbacks.shown import Shown
from tests.helpers import trainer_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning:lightning")


def near(picture: np.ndarray, color: tuple[int, int, int], distance: int = 12) -> np.ndarray:
    return np.asarray((np.abs(picture.astype(int) - color) < distance).all(2))


def test_masked_words_are_gray_and_weights_are_not() -> None:
    weights = torch.eye(8).expand(2, 8, 8)  # every word attends to itself alone
    sheet = word_attention_sheet(list("abcdefgh"), [weights, weights])
    gray, yellow, dark = (near(sheet, c).sum() for c in ((217, 217, 217), (253, 231, 37), (68, 1, 84)))
    assert gray / dark == pytest.approx(1, abs=0.1)  # 28 cells each, right and left of the diagonal
    assert gray / yellow == pytest.approx(28 / 8, rel=0.35)  # the color bar has some more yellow
    full = torch.full((2, 8, 8), 1 / 8)
    assert near(word_attention_sheet(list("abcdefgh"), [full]), (217, 217, 217)).sum() > 1000  # drawn by position


def test_the_query_is_the_position_with_most_contrast() -> None:
    image = torch.full((3, 24, 24), 0.5)
    image[:, 16:20, 8:16:2] = 1  # row 4, columns 2 and 3 of a 6 × 6 grid
    image[:, 17:19, 8:12] = 0
    assert contrast_position(image, 6) == 4 * 6 + 2


def test_the_image_is_bright_where_the_query_attends() -> None:
    image = torch.ones(1, 12, 12)
    image[:, 0:3, 0:6:2] = 0  # contrast at position 0, the query
    weights = torch.zeros(1, 16, 16)
    weights[0, :, 15] = 1  # all attend to the lower right corner
    sheet = image_attention_sheet(image, [weights])
    height, width = sheet.shape[:2]
    lower = sheet[height // 2 :, width // 2 :].mean(2)
    panel = np.argwhere((lower > 70) & (lower < 83))  # 30 % of white
    (top, left), (bottom, right) = panel.min(0), panel.max(0)
    corner = lower[bottom - (bottom - top) // 5 : bottom, right - (right - left) // 5 : right]
    assert len(panel) > 1000 and corner.mean() > 250
    assert near(sheet, (255, 0, 0), 100).sum() > 100


def test_a_run_draws_the_words_of_its_captions_and_the_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ShapeCaptions(num_train=40, num_test=10, batch_size=12)
    model = CaptionTransformer(
        data.input_shape, data.vocabulary, width=8, num_layers=3, num_heads=2, encoder_layers=1, channels=(4, 4, 4),
        max_length=4,
    )  # fmt: skip
    words = Shown(monkeypatch, self_attention_maps, "word_attention_sheet")
    grids = Shown(monkeypatch, self_attention_maps, "image_attention_sheet")
    trainer = trainer_of(tmp_path, SelfAttentionMaps(2), max_epochs=1, num_sanity_val_steps=0)
    trainer.fit(model, data)
    assert len(words.calls) == len(grids.calls) == 2
    for shown, layers in words.calls:
        assert shown[0] == "(start)" and all(word in data.vocabulary for word in shown[1:])
        assert [tuple(w.shape) for w in layers] == [(2, len(shown), len(shown))] * 3
    assert [tuple(w.shape) for w in grids.calls[0][1]] == [(2, 36, 36)]
    assert grids.calls[0][0].shape == (3, 48, 48) and 0 <= grids.calls[0][0].min() <= grids.calls[0][0].max() <= 1
    pictures = sorted(str(file.parent.relative_to(tmp_path / "pictures")) for file in tmp_path.rglob("*.png"))
    assert pictures == [f"{kind}/val/{n}" for kind in ("encoder_attention", "self_attention") for n in (1, 2)]


def test_refusals() -> None:
    with pytest.raises(ValueError, match="num_images is 0; it must be at least 1"):
        SelfAttentionMaps(0)
    lstm = CaptionLSTM((4, 6), ["<pad>", "<start>", "<end>", "<unk>", "red"], width=8)
    with pytest.raises(ValueError, match="CaptionLSTM has no self-attention to show; remove"):
        SelfAttentionMaps().setup(trainer_of(Path(), max_epochs=1), lstm, "fit")

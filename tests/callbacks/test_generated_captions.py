"""Pictures of captions and attention maps: their contents, and the epochs at which they are drawn."""

from collections.abc import Iterable
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image

import callbacks.generated_captions
from callbacks import GeneratedCaptions
from callbacks.caption_pictures import attention_sheet, caption_sheet, stacked
from callbacks.generated_captions import captions_with_attention
from datamodules import ShapeCaptions
from modules import CaptionLSTM, SoftmaxRegression
from modules.caption_metrics.rouge import ROUGE
from tests.callbacks.shown import Shown
from tests.helpers import trainer_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning:lightning")

VOCABULARY = ["<pad>", "<start>", "<end>", "<unk>", "red", "square"]


def share_of(picture: np.ndarray, color: tuple[int, int, int]) -> float:
    return float((np.abs(picture.astype(int) - color) < 60).all(2).mean())


def test_a_caption_that_is_a_reference_is_green() -> None:
    image = torch.zeros(1, 3, 8, 8)
    right = caption_sheet(image, ["a red square"], [["a red square", "another"]], "")
    wrong = caption_sheet(image, ["a red circle"], [["a red square"]], "")
    green = (0, 128, 0)
    assert share_of(right, green) > 0.0004 and share_of(wrong, green) == 0
    assert wrong.shape == right.shape and right.dtype == np.uint8


def test_the_image_stays_bright_where_attention_is_high() -> None:
    attention = torch.full((2, 4), 1e-6)
    attention[0, 0] = attention[1, 3] = 1  # the first word attends to the top left, the second to the bottom right
    sheet = attention_sheet(torch.ones(3, 40, 40), ["one", "two"], attention).astype(float).mean(2)
    height, panel = sheet.shape[0], sheet.shape[1] // 3
    for word, (bright, dark) in ((1, ((0.45, 0.25), (0.85, 0.75))), (2, ((0.85, 0.75), (0.45, 0.25)))):
        values = [sheet[int(y * height), int((word + x) * panel)] for y, x in (bright, dark)]
        assert values[0] > values[1] + 100


def test_pictures_of_different_widths_are_stacked() -> None:
    top, bottom = np.zeros((2, 3, 3), np.uint8), np.full((1, 5, 3), 7, np.uint8)
    picture = stacked([top, bottom])
    assert picture.shape == (3, 5, 3)
    assert (picture[:2, :3] == 0).all() and (picture[:2, 3:] == 255).all() and (picture[2] == 7).all()


def test_attention_is_that_before_each_generated_word() -> None:
    torch.manual_seed(0)
    model = CaptionLSTM((4, 6), VOCABULARY, width=8, max_length=30).eval()
    inputs = torch.randn(2, 4, 6)
    model.output.bias.data[2] = 1.0  # END comes after some words
    shown = captions_with_attention(model, inputs)
    for one, caption, (words, attention) in zip(inputs, model.caption(inputs), shown, strict=True):
        assert words == [*caption.split(), "(end)"]
        assert attention.shape == (len(words), 4)
        torch.testing.assert_close(attention.sum(1), torch.ones(len(words)))
        numbers = [1, *(VOCABULARY.index(word) for word in words[:-1])]
        torch.testing.assert_close(attention, model.attention_maps(one[None], torch.tensor([numbers]))[0])


@pytest.mark.parametrize(("search", "longest"), [({}, 3), ({"beam_size": 2}, 3), ({"max_length": 5}, 5)])
def test_the_last_label_says_whether_the_caption_ended_or_was_cut(search: dict[str, int], longest: int) -> None:
    torch.manual_seed(0)
    model = CaptionLSTM((4, 6), VOCABULARY, width=8, max_length=3).eval()
    inputs = torch.randn(2, 4, 6)
    model.output.bias.data[2] = -1e3  # END is never chosen
    for labels, _ in captions_with_attention(model, inputs, **search):
        assert len(labels) == longest + 1 and labels[-1] == "(max_length)"
    model.output.bias.data[2] = 1e3
    assert [labels for labels, _ in captions_with_attention(model, inputs, **search)] == [["(end)"]] * 2


def files(folder: Path) -> list[str]:
    pictures: Iterable[Path] = folder.rglob("*.png")
    return sorted(str(file.relative_to(folder)) for file in pictures)


def test_a_run_leaves_a_sheet_of_captions_each_epoch_and_one_of_attention(tmp_path: Path) -> None:
    data = ShapeCaptions(num_train=40, num_test=10, batch_size=12)
    model = CaptionLSTM(data.input_shape, data.vocabulary, width=8, channels=(4, 4, 4), max_length=4)
    trainer = L.Trainer(
        max_epochs=3, callbacks=[GeneratedCaptions(4, 2, every_n_epochs=2)], default_root_dir=tmp_path, logger=False,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(model, data)
    steps = len(data.train_dataloader())
    assert files(tmp_path / "pictures") == [
        f"attention/val/{3 * steps:08d}.png",
        f"captions/val/{2 * steps:08d}.png",
        f"captions/val/{3 * steps:08d}.png",
    ]
    width, height = Image.open(tmp_path / "pictures" / "captions" / "val" / f"{3 * steps:08d}.png").size
    assert width > 2 * height  # four images in a row
    trainer.test(model, data, verbose=False)
    assert len(files(tmp_path / "pictures" / "captions" / "test")) == 1
    assert len(files(tmp_path / "pictures" / "attention" / "test")) == 1


def test_a_table_has_each_caption_with_all_references_and_its_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = Shown(monkeypatch, callbacks.generated_captions, "log_table").calls
    data = ShapeCaptions(num_train=20, num_test=10, batch_size=12)
    model = CaptionLSTM(data.input_shape, data.vocabulary, 8, channels=(4, 4, 4), max_length=4)
    trainer_of(tmp_path, GeneratedCaptions(3, 0)).test(model, data, verbose=False)
    [(_, name, columns, rows)] = tables
    assert (name, columns) == ("tables/captions/test", ("image", "caption", "references", "rouge_l"))
    inputs, _, references = next(iter(data.test_dataloader()))
    captions = model.caption(data.preprocess(inputs[:3]))
    for index, (image, caption, given, score) in enumerate(rows):
        pixels = data.evaluation_images("test", torch.tensor([index]))[0].mul(255).round().byte()
        np.testing.assert_array_equal(image, pixels.permute(1, 2, 0))
        assert (caption, given) == (captions[index], "\n".join(references[index]))
        alone = ROUGE()
        alone.update([caption], [references[index]])
        assert score == pytest.approx(float(alone.compute()))
    assert len(rows) == 3


def test_a_model_without_attention_shows_captions_alone(tmp_path: Path) -> None:
    data = ShapeCaptions(num_train=20, num_test=10, batch_size=12)
    model = CaptionLSTM(data.input_shape, data.vocabulary, 8, channels=(4, 4, 4), max_length=4, attention=False)
    trainer = L.Trainer(
        max_epochs=1, callbacks=[GeneratedCaptions(2)], default_root_dir=tmp_path, logger=False,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(model, data)
    assert [file.split("/")[0] for file in files(tmp_path / "pictures")] == ["captions"]


def test_refusals() -> None:
    with pytest.raises(ValueError, match="num_images is 0; it must be at least 1"):
        GeneratedCaptions(num_images=0)
    with pytest.raises(ValueError, match="SoftmaxRegression writes no captions to show; remove"):
        GeneratedCaptions().setup(L.Trainer(logger=False), SoftmaxRegression((1, 8, 8), 10), "fit")


def test_dollars_in_captions_are_no_formulas() -> None:
    image, attention = torch.zeros(1, 3, 20, 20), torch.full((1, 4), 0.25)
    plain = caption_sheet(image, [r"costs 5 or 6"], [["a red square"]])
    assert (caption_sheet(image, [r"costs $5 \or $6"], [[r"a $\red$ square"]]) != plain).any()
    assert attention_sheet(image[0], [r"$\one$"], attention).ndim == 3

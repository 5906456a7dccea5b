"""Caption data under Lightning's Trainer: the batches of each stage, and what a checkpoint stores."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn

from common.vocabulary import decode_caption
from datamodules import CaptionDataModule, COCOCaptions, ShapeCaptions
from datamodules.captions.caption_data_module import OfficialCaptions
from tests.datamodules.captions.coco_dataset import captions_of, write_coco


class BatchRecorder(L.LightningModule):
    """Records its batches; trains one number."""

    def __init__(self) -> None:
        super().__init__()
        self.number = nn.Parameter(torch.zeros(()))
        self.seen: dict[str, list[Any]] = {"train": [], "val": [], "test": [], "predict": []}

    def training_step(self, batch: Any) -> Tensor:
        self.seen["train"].append(batch)
        return self.number * batch[0].mean()

    def validation_step(self, batch: Any) -> None:
        self.seen["val"].append(batch)

    def test_step(self, batch: Any) -> None:
        self.seen["test"].append(batch)

    def predict_step(self, batch: Any) -> Tensor:
        self.seen["predict"].append(batch)
        return torch.as_tensor(batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(folder: Path, **settings: Any) -> L.Trainer:
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    quiet |= {"num_sanity_val_steps": 0, "accelerator": "cpu"}
    return L.Trainer(default_root_dir=folder, **{**quiet, "max_epochs": 1, **settings})


def tokens_of(batches: list[Any]) -> list[Any]:
    return [batch[1].tolist() for batch in batches]


@pytest.mark.filterwarnings("ignore")
def test_every_stage_gets_the_documented_batches(tmp_path: Path) -> None:
    images = [str(write_coco(tmp_path) / "val2017")]
    for data in (
        ShapeCaptions(num_train=40, num_test=10, batch_size=8),
        COCOCaptions(str(tmp_path), image_size=16, min_count=1, batch_size=8, images=images),
        COCOCaptions(str(tmp_path), backbone="test_resnet", min_count=1, batch_size=8, images=images),
    ):
        model = BatchRecorder()
        run = trainer(tmp_path)
        run.fit(model, data)
        run.test(model, data, verbose=False)
        vocabulary = data.vocabulary
        for inputs, tokens in model.seen["train"]:
            assert inputs.dtype == torch.float32
            assert inputs.shape == (8, *data.input_shape)
            assert tokens.dtype == torch.int64
            assert tokens[:, 0].eq(1).all()
            assert tokens.eq(2).sum(1).eq(1).all()  # one END, and only PAD after it
            assert all(row[row.index(2) + 1 :].count(0) == len(row) - row.index(2) - 1 for row in tokens.tolist())
            assert tokens.shape[1] <= data.max_length + 2
        for split in ("val", "test"):
            seen = model.seen[split]
            assert [texts for batch in seen for texts in batch[2]] == data.captions(split)
            for inputs, tokens, references in seen:
                assert inputs.shape == (len(references), *data.input_shape)
                assert inputs.dtype == torch.float32
                assert len(tokens) == len(references)
                assert all(isinstance(text, str) for texts in references for text in texts)
                first = decode_caption(tokens[0].tolist(), vocabulary).split()
                assert len(first) == len(references[0][0].split())
        if isinstance(data, COCOCaptions):
            indices = run.predict(model, data)
            assert torch.cat(indices).tolist() == [0, 1, 2, 3, 4]  # type: ignore[arg-type]
            assert model.seen["predict"][0][0].shape == (5, *data.input_shape)
            assert len(data.image_files) == 5


@pytest.mark.filterwarnings("ignore")
def test_a_checkpoint_stores_the_vocabulary_and_a_run_resumes_with_the_next_batch(tmp_path: Path) -> None:
    def data(**settings: Any) -> ShapeCaptions:
        return ShapeCaptions(num_train=40, num_test=10, batch_size=8, captions_per_image=None, **settings)

    whole, rest = BatchRecorder(), BatchRecorder()
    every_four = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=4, save_top_k=-1)
    trainer(tmp_path, max_epochs=2, callbacks=[every_four]).fit(whole, data())
    file = tmp_path / "step=4.ckpt"  # in the middle of the first epoch of nine batches
    assert torch.load(file, weights_only=True)["ShapeCaptions"]["vocabulary"] == data().vocabulary
    trainer(tmp_path, max_epochs=2, enable_checkpointing=False).fit(rest, data(), ckpt_path=file)
    assert len(whole.seen["train"]) == 18
    assert tokens_of(rest.seen["train"]) == tokens_of(whole.seen["train"])[4:]
    with pytest.raises(ValueError, match="The checkpoint was trained with a vocabulary of 24 words, but the data has"):
        trainer(tmp_path).test(BatchRecorder(), data(min_count=30), ckpt_path=file)


def test_nothing_held_out_means_no_validation(tmp_path: Path) -> None:
    data = ShapeCaptions(num_train=20, num_test=10, val_fraction=0.0)
    assert data.val_dataloader() == []
    assert len(data.captions("train")) == 20


def test_any_split_can_be_evaluated_in_order(tmp_path: Path) -> None:
    write_coco(tmp_path)
    data = COCOCaptions(str(tmp_path), image_size=16, min_count=1, val_fraction=0.0, subset=4, captions_per_image=1)
    (batch,) = list(data.evaluation_dataloader("train"))
    numbers = [int(file.stem) for file in data.files("train")]
    assert batch[2] == [[" ".join(text.split()) for text in captions_of(number)] for number in numbers]
    torch.testing.assert_close(data.preprocess(batch[0]), data.evaluation_inputs("train", torch.arange(4)))


def test_a_data_set_that_lacks_a_definition_is_named() -> None:
    class Nothing(CaptionDataModule):
        pass

    with pytest.raises(TypeError, match=r"abstract class Nothing .*evaluation_images.*input_shape.*inputs.*read"):
        Nothing()  # type: ignore[abstract]


def test_validation_never_shares_an_image_with_training_whatever_the_seed() -> None:
    class Numbered(ShapeCaptions):
        def read(self, train: bool) -> OfficialCaptions:
            return OfficialCaptions([[f"image {i}", f"picture {i}"] for i in range(30)])

    for seed in range(20):
        data = Numbered(split_seed=seed, val_fraction=0.2)
        train, val = ({text.split()[1] for texts in data.captions(s) for text in texts} for s in ("train", "val"))
        assert len(train) == 24
        assert len(val) == 6
        assert not train & val
        assert set(data.vocabulary[4:]) == {"image", "picture"} | train

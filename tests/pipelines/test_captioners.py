"""The captioners on the command line: their own configurations, the links to their data, other words, another test."""

import csv
import shutil
from pathlib import Path

import pytest

from tests.command_line import run_pipeline
from tests.datamodules.captions.coco_dataset import write_coco

TINY = [
    "--data.num_train", "60", "--data.num_test", "20", "--data.batch_size", "16", "--trainer.max_epochs", "1",
    "--trainer.callbacks=null", "--model.width", "16", "--model.channels", "[4, 8]", "--trainer.log_every_n_steps", "1",
]  # fmt: skip


@pytest.mark.parametrize("topic", ["caption_rnn", "caption_lstm", "caption_transformer", "caption_encoder_decoder"])
def test_fit_and_test(topic: str, tmp_path: Path) -> None:
    fitted = run_pipeline("train", ["fit", "--config", topic, *TINY], tmp_path)
    assert fitted.code == 0, fitted.err
    (run,) = (tmp_path / "logs" / topic).iterdir()
    with (run / "metrics.csv").open(newline="") as file:
        names = {name for row in csv.DictReader(file) for name, value in row.items() if value}
    shared = {"loss", "cider", "rouge_l", "exact_match", "bleu1", "bleu2", "bleu3", "bleu4"}
    assert {name for name in names if "/" in name} == {"train/loss"} | {f"val/{name}" for name in shared}
    tested = run_pipeline("train", ["test", "--ckpt_path", str(run), "--model.beam_size", "3"], tmp_path)
    assert tested.code == 0, tested.err
    printed = dict(line.split() for line in tested.out.splitlines() if line.startswith("test/"))
    assert printed.keys() == {f"test/{name}" for name in shared | {"images"}}
    assert printed["test/images"] == "20"


def test_a_run_goes_on_with_its_own_words_alone(tmp_path: Path) -> None:
    assert run_pipeline("train", ["fit", "--config", "caption_rnn", *TINY], tmp_path).code == 0
    (run,) = (tmp_path / "logs" / "caption_rnn").iterdir()
    others = run_pipeline("train", ["test", "--ckpt_path", str(run), "--data.min_count", "30"], tmp_path)
    assert others.code == 2
    assert len(others.err.splitlines()) == 1
    assert "use the data" in others.err


@pytest.mark.parametrize(
    ("config", "data", "says"),
    [
        ("svm", "ShapeCaptions", "needs the num_classes of its data, which ShapeCaptions does not have"),
        ("caption_rnn", "Digits", "needs the vocabulary of its data, which Digits does not have"),
    ],
)
def test_data_that_does_not_suit_the_model(config: str, data: str, says: str, tmp_path: Path) -> None:
    arguments = ["fit", "--config", config, "--data", data, "--trainer.max_epochs", "1", "--trainer.callbacks=null"]
    done = run_pipeline("train", arguments, tmp_path)
    assert done.code == 2
    assert says in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.slow
def test_images_are_captioned_when_the_data_is_gone_or_has_changed(tmp_path: Path) -> None:
    folder = write_coco(tmp_path / "data")
    fit = [
        "fit", "--config", "caption_rnn", "--data", "COCOCaptions", "--data.image_size", "16", "--data.min_count", "1",
        "--data.val_fraction", "0.25", "--trainer.max_epochs", "1", "--trainer.callbacks=null", "--model.width", "16",
        "--model.channels", "[4, 8]",
    ]  # fmt: skip
    fitted = run_pipeline("train", fit, tmp_path)
    assert fitted.code == 0, fitted.err
    (run,) = (tmp_path / "logs" / "caption_rnn").iterdir()
    (tmp_path / "photos").mkdir()
    (folder / "val2017" / "000000000013.jpg").rename(tmp_path / "photos" / "13.jpg")
    predict, caption = ["predict", "--ckpt_path", str(run), "--images", "photos"], [str(run), "photos"]
    before = run_pipeline("train", predict, tmp_path), run_pipeline("caption", caption, tmp_path)
    assert [finished.code for finished in before] == [0, 0], before[0].err + before[1].err
    expected = (tmp_path / "predictions.csv").read_text()
    shutil.rmtree(tmp_path / "data")
    after = run_pipeline("train", predict, tmp_path), run_pipeline("caption", caption, tmp_path)
    assert [finished.code for finished in after] == [0, 0], after[0].err + after[1].err
    assert (tmp_path / "predictions.csv").read_text() == expected and after[1].out == before[1].out
    tested = run_pipeline("train", ["test", "--ckpt_path", str(run)], tmp_path)
    assert tested.code == 2 and "captions_train2017.json does not exist; set root" in tested.err

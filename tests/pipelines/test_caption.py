"""`python -m pipelines.caption`: captions equal those of the model, and the file is in COCO's results format."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from datamodules import ShapeCaptions
from modules.captioning.consensus import consensus
from pipelines.caption import image_ids
from pipelines.run.load_model import restore, untrained
from pipelines.run.run_folder import find_run
from tests.command_line import run_pipeline

FIT = [
    "fit", "--config", "caption_lstm", "--data.num_train", "60", "--data.num_test", "10", "--data.batch_size", "30",
    "--model.width", "16", "--model.channels", "[4, 4, 8]", "--trainer.max_epochs", "2", "--trainer.precision",
    "32-true", "--optimizer.lr", "0.03",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a tiny captioner, and beside it four scenes as image files."""
    folder = tmp_path_factory.mktemp("captioner")
    finished = run_pipeline("train", FIT, folder)
    assert finished.code == 0, finished.err
    scenes = ShapeCaptions(num_train=60, num_test=10).evaluation_images("test", torch.arange(4))
    (folder / "photos").mkdir()
    for number, scene in zip((7, 3, 12, 5), scenes, strict=True):
        pixels = (scene * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / "photos" / f"COCO_val2014_{number:012d}.png")
    (found,) = (folder / "logs" / "caption_lstm").iterdir()
    return found


def test_the_file_is_in_cocos_format_with_the_captions_of_the_model(run: Path) -> None:
    folder = run.parents[2]
    finished = run_pipeline("caption", [str(run), "photos", "--out", "captions.json", "--beam", "2"], folder)
    assert finished.code == 0, finished.err
    rows = json.loads((folder / "captions.json").read_text())
    files = sorted((folder / "photos").iterdir())
    assert [row["image_id"] for row in rows] == [3, 5, 7, 12]
    assert [row["file_name"] for row in rows] == [file.name for file in files]
    model, data = untrained(find_run(str(run))[0])
    restore(model, data, find_run(str(run))[1])
    data.images = [str(folder / "photos")]
    inputs = torch.cat([data.on_after_batch_transfer(batch, 0)[0] for batch in data.predict_dataloader()])
    assert [row["caption"] for row in rows] == model.caption(inputs, beam_size=2)
    assert (
        finished.out.splitlines()[:4] == [f"photos/{row['file_name']}  {row['caption']}" for row in rows]
        and "4 captions in captions.json" in finished.out
    )


def test_show_writes_a_picture_of_each_image_with_its_attention(run: Path) -> None:
    folder = run.parents[2]
    finished = run_pipeline("caption", [str(run), "photos", "--show", "pictures", "--max-length", "3"], folder)
    assert finished.code == 0, finished.err
    pictures = sorted((folder / "pictures").iterdir())
    assert len(pictures) == 4 and pictures[0].name == "00000_COCO_val2014_000000000003.png"
    width, height = Image.open(pictures[0]).size
    assert height > 300 and width > 300  # the caption, and below it a row of up to four words


def test_sampling_is_reproducible_by_its_seed(run: Path) -> None:
    folder = run.parents[2]
    said = []
    for seed in ("1", "1", "2"):
        finished = run_pipeline("caption", [str(run), "photos", "--temperature", "2", "--seed", seed], folder)
        assert finished.code == 0, finished.err
        said.append(finished.out)
    assert said[0] == said[1] != said[2]


def test_consensus_chooses_the_sample_most_similar_to_the_others(run: Path) -> None:
    folder = run.parents[2]
    options = ["--consensus", "5", "--temperature", "2", "--seed", "1", "--out", "chosen.json"]
    finished = run_pipeline("caption", [str(run), "photos", *options], folder)
    assert finished.code == 0, finished.err
    model, data = untrained(find_run(str(run))[0])
    restore(model, data, find_run(str(run))[1])
    data.images = [str(folder / "photos")]
    inputs = torch.cat([data.on_after_batch_transfer(batch, 0)[0] for batch in data.predict_dataloader()])
    torch.manual_seed(1)
    drawn = zip(*(model.caption(inputs, temperature=2.0) for _ in range(5)), strict=True)
    said = [row["caption"] for row in json.loads((folder / "chosen.json").read_text())]
    assert said == consensus(list(drawn))


def test_predict_writes_captions_beside_the_files(run: Path) -> None:
    folder = run.parents[2]
    finished = run_pipeline("train", ["predict", "--ckpt_path", str(run), "--images", "photos"], folder)
    assert finished.code == 0, finished.err
    lines = (folder / "predictions.csv").read_text().splitlines()
    assert lines[0] == "image,caption" and len(lines) == 5
    assert lines[1].startswith("photos/COCO_val2014_000000000003.png,")


def test_image_ids_are_numbers_of_names_or_indices() -> None:
    assert image_ids([Path("000000391895.jpg"), Path("a/12.png")]) == [391895, 12]
    assert image_ids([Path("dog.jpg"), Path("12.png")]) == [0, 1]
    assert image_ids([Path("a/12.jpg"), Path("b/12.jpg")]) == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere", "photos"], "There is no checkpoint at nowhere"),
        (["RUN", "nothing.png"], "nothing.png does not exist"),
        (["RUN", "text.png"], "text.png can't be read as an image"),
        (["RUN", "photos", "--beam", "0"], "beam_size is 0; it must be at least 1"),
        (["RUN", "photos", "--consensus", "0"], "--consensus is 0; it must be at least 1"),
        (["RUN", "photos", "--temperature", "0"], "temperature is 0.0; it must be greater than 0"),
        (["RUN", "photos", "--top-k", "0"], "top_k is 0; it must be at least 1"),
        (["RUN", "photos", "--max-length", "0"], "max_length is 0; it must be at least 1"),
        (["RUN", "photos", "--out", "photos"], "photos is a folder; set --out to the name of a file"),
        (["RUN"], "images is missing; see python -m pipelines.caption --help"),
        (["RUN", "photos", "--beams", "3"], "There is no option --beams; did you mean --beam?"),
    ],
)
def test_a_mistake_is_one_sentence(run: Path, arguments: list[str], says: str) -> None:
    folder = run.parents[2]
    (folder / "text.png").write_text("no image")
    finished = run_pipeline("caption", [str(run) if word == "RUN" else word for word in arguments], folder)
    assert finished.code == 2
    assert says.lower() in finished.err.lower() and finished.err.count("\n") == 1


def test_a_classifier_is_not_a_captioner(tmp_path: Path) -> None:
    fit = ["fit", "--config", "softmax", "--data", "Digits", "--data.flip", "false", "--trainer.max_epochs", "1"]
    assert run_pipeline("train", [*fit, "--trainer.callbacks", "null"], tmp_path).code == 0
    (softmax,) = (tmp_path / "logs" / "softmax").iterdir()
    finished = run_pipeline("caption", [str(softmax), "photos"], tmp_path)
    assert finished.code == 2
    assert "is of SoftmaxRegression, which does not write captions; use a run of a captioner." in finished.err

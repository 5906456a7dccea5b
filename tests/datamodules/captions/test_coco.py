"""COCOCaptions on a small COCO in the official formats: splits by image, vocabulary, batches, bad images."""

import json
import pickle
import unicodedata
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from common.vocabulary import SPECIAL_WORDS, build_vocabulary, decode_caption, split_words
from datamodules import COCOCaptions
from datamodules.captions.caption_data_module import Split
from datamodules.loader import BatchLoader
from tests.datamodules.captions.coco_dataset import (
    annotations,
    captions_of,
    number_of,
    write_coco,
    write_json,
    write_karpathy,
)

SPLITS: list[Split] = ["train", "val", "test"]


def coco(root: Path, **settings: Any) -> COCOCaptions:
    defaults = {"image_size": 16, "min_count": 1, "batch_size": 4, "val_fraction": 0.25, "normalization": "scale"}
    return COCOCaptions(str(root), **{**defaults, **settings})


def numbers(data: COCOCaptions, split: Split) -> list[int]:
    """The images of a split, by the number in their file names."""
    return [int(file.stem[-12:]) for file in data.files(split)]


# --------------------------------------------------------------------------------------------------------------- splits


@pytest.mark.parametrize("year", [2014, 2017])
def test_validation_is_a_share_of_the_training_images_and_the_official_one_is_the_test(
    tmp_path: Path, year: int
) -> None:
    write_coco(tmp_path, year=year)
    data = coco(tmp_path, year=year)
    found = {split: numbers(data, split) for split in SPLITS}
    assert [len(found[split]) for split in SPLITS] == [9, 3, 5]
    assert sorted(found["train"] + found["val"]) == list(range(1, 13))
    assert found["test"] == list(range(13, 18))
    for split in SPLITS:  # by image, never by caption: each image has all its captions in its own split
        own = [[" ".join(text.split()) for text in captions_of(number)] for number in found[split]]
        assert data.captions(split) == own
    assert numbers(coco(tmp_path, year=year), "val") == found["val"]
    others = [numbers(coco(tmp_path, year=year, split_seed=seed), "val") for seed in range(1, 6)]
    assert any(other != found["val"] for other in others)


@pytest.mark.parametrize("year", [2014, 2017])
def test_karpathys_splits_are_used_if_the_file_exists(tmp_path: Path, year: int) -> None:
    folder = write_coco(tmp_path, year=year)
    splits = dict.fromkeys(range(1, 10), "train") | {10: "val", 11: "test", 12: "val"}
    write_karpathy(folder, {**splits, 13: "restval", 14: "restval", 15: "test", 16: "val", 17: "test"})
    data = coco(tmp_path, year=year)
    assert numbers(data, "train") == [*range(1, 10), 13, 14]
    assert numbers(data, "val") == [10, 12, 16]
    assert numbers(data, "test") == [11, 15, 17]
    assert not data.left_out
    batches = list(data.val_dataloader())
    assert [number_of(image.numpy() / 255) for batch in batches for image in batch[0]] == [10, 12, 16]


def test_an_image_in_both_official_files_is_refused(tmp_path: Path) -> None:
    folder = write_coco(tmp_path)
    write_json(folder / "annotations" / "captions_val2017.json", annotations([5, 13], "val2017"))
    (folder / "val2017" / "000000000005.jpg").write_bytes((folder / "train2017" / "000000000005.jpg").read_bytes())
    data = coco(tmp_path)
    with pytest.raises(ValueError, match=r"image 5 is in both captions_train2017\.json and captions_val2017\.json"):
        data.setup("test")


def test_subset_and_captions_per_image(tmp_path: Path) -> None:
    write_coco(tmp_path)
    data = coco(tmp_path, subset=4, captions_per_image=2, batch_size=8)
    data.setup("fit")
    assert len(data.captions("train")) == 4
    images, _, lengths = data._samples
    assert images.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert lengths.tolist() == [5, 6] * 4  # 4 and 5 words, and END
    assert set(numbers(data, "train")) < set(range(1, 13))
    assert not set(numbers(data, "train")) & set(numbers(data, "val"))
    with pytest.raises(ValueError, match="subset is 10, but there are 9 training images after 3 were held out"):
        coco(tmp_path, subset=10).setup("fit")


def test_the_training_set_never_opens_the_test_files(tmp_path: Path) -> None:
    folder = write_coco(tmp_path)
    (folder / "annotations" / "captions_val2017.json").unlink()
    data = coco(tmp_path)
    data.setup("fit")
    assert next(iter(data.train_dataloader()))[0].shape == (4, 3, 16, 16)
    with pytest.raises(ValueError, match=r"captions_val2017\.json does not exist"):
        data.setup("test")


# ----------------------------------------------------------------------------------------------------------- vocabulary


def test_the_vocabulary_is_that_of_the_training_captions_even_before_setup(tmp_path: Path) -> None:
    folder = write_coco(tmp_path)
    content = annotations(list(range(13, 18)), "val2017")
    content["annotations"][0]["caption"] = "zebra zebra zebra zebra zebra zebra"
    write_json(folder / "annotations" / "captions_val2017.json", content)
    for min_count in (1, 3, 5):
        data = coco(tmp_path, min_count=min_count)
        train = [text for number in numbers(data, "train") for text in captions_of(number)]
        assert data.vocabulary == build_vocabulary(train, min_count)
        assert "zebra" not in data.vocabulary
    held_out = {word for number in numbers(data, "val") for text in captions_of(number) for word in split_words(text)}
    assert held_out - set(coco(tmp_path, subset=1).vocabulary)  # so the validation captions were not counted


def test_the_vocabulary_of_missing_files_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"captions_train2017\.json does not exist; set root to the folder above"):
        coco(tmp_path).vocabulary  # noqa: B018


def test_a_checkpoint_with_another_vocabulary_is_refused(tmp_path: Path) -> None:
    write_coco(tmp_path)
    state = coco(tmp_path).state_dict()
    assert tuple(state["vocabulary"][:4]) == SPECIAL_WORDS
    coco(tmp_path).load_state_dict(state)
    with pytest.raises(
        ValueError, match=r"vocabulary of [\d,]+ words, but the data has [\d,]+, [\d,]+ of them in only"
    ):
        coco(tmp_path, min_count=9).load_state_dict(state)
    reordered = [*SPECIAL_WORDS, *reversed(state["vocabulary"][4:])]
    with pytest.raises(ValueError, match="the same in another order; use the training captions"):
        coco(tmp_path).load_state_dict({"vocabulary": reordered})


def test_captions_longer_than_the_limit_are_left_out_and_counted_but_stay_references(tmp_path: Path) -> None:
    write_coco(tmp_path)
    data = coco(tmp_path, max_length=5)
    with pytest.warns(UserWarning, match="COCOCaptions left out: 18 training captions longer than 5 words"):
        data.setup("fit")
    assert data.left_out == {"training captions longer than 5 words": 18}  # two of each of nine images
    batch = next(iter(data.val_dataloader()))
    assert batch[1].shape[1] <= 7
    assert [len(texts) for texts in batch[2]] == [5, 5, 5]
    with pytest.raises(ValueError, match="max_length is 1, but every training caption is longer"):
        coco(tmp_path, max_length=1).setup("fit")


# -------------------------------------------------------------------------------------------------------------- batches


def test_every_training_caption_comes_once_beside_its_own_image(tmp_path: Path) -> None:
    write_coco(tmp_path)
    data = coco(tmp_path, batch_size=5)
    seen = []
    vocabulary = data.vocabulary
    for images, tokens in data.train_dataloader():
        assert images.dtype == torch.uint8
        assert tokens.dtype == torch.int64
        for image, row in zip(images.numpy(), tokens.tolist(), strict=True):
            assert row[0] == 1
            assert row.count(2) == 1
            seen.append((number_of(image / 255), decode_caption(row, vocabulary)))
    own = [(n, " ".join(split_words(text))) for n in numbers(data, "train") for text in captions_of(n)]
    assert sorted(seen) == sorted(own)


def test_evaluation_batches_hold_each_image_once_with_raw_references(tmp_path: Path) -> None:
    write_coco(tmp_path)
    data = coco(tmp_path)
    for split, loader in (("val", data.val_dataloader()), ("test", data.test_dataloader())):
        batches = list(loader)
        images = [number_of(image.numpy() / 255) for batch in batches for image in batch[0]]
        assert images == numbers(data, split)  # type: ignore[arg-type]
        references = [texts for batch in batches for texts in batch[2]]
        assert references == data.captions(split)  # type: ignore[arg-type]
        assert references == data.references(split, torch.arange(len(images)))  # type: ignore[arg-type]
        first = [decode_caption(row, data.vocabulary) for batch in batches for row in batch[1].tolist()]
        known = set(data.vocabulary)
        expected = [
            " ".join(w if w in known else "<unk>" for w in split_words(captions_of(number)[0])) for number in images
        ]
        assert first == expected


def test_preprocessing_by_both_normalizations(tmp_path: Path) -> None:
    write_coco(tmp_path)
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).repeat(1, 3, 1, 1)
    scaled = coco(tmp_path).on_after_batch_transfer((pixels, "kept"), 0)
    assert scaled[1] == "kept"
    torch.testing.assert_close(scaled[0], pixels.float() / 127.5 - 1)
    normal = coco(tmp_path, normalization="imagenet").on_after_batch_transfer((pixels,), 0)[0]
    torch.testing.assert_close(normal[0, 1], (pixels[0, 1] / 255 - 0.456) / 0.224)


def test_workers_bring_the_same_batches(tmp_path: Path) -> None:
    write_coco(tmp_path)
    here, there = (list(coco(tmp_path, num_workers=n).train_dataloader()) for n in (0, 2))
    for ours, theirs in zip(here, there, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    fetch: Any = coco(tmp_path).train_dataloader().fetch
    assert pickle.loads(pickle.dumps(fetch)).tokens.equal(fetch.tokens)  # where workers don't fork


def test_albumentations_get_larger_images_and_crop_them(tmp_path: Path) -> None:
    write_coco(tmp_path)
    pipeline = [{"RandomCrop": {"height": 16, "width": 16}}, {"ToGray": {"p": 1.0}}]
    data = coco(tmp_path, decode_size=24, albumentations=pipeline)
    images, _ = next(iter(data.train_dataloader()))
    assert images.shape == (4, 3, 16, 16)
    assert torch.equal(images[:, 0], images[:, 1])  # gray, as the pipeline has it
    shown = next(iter(data.val_dataloader()))[0]
    assert not torch.equal(shown[:, 0], shown[:, 1])  # evaluation images are left alone
    with pytest.raises(ValueError, match=r"shape \(3, 24, 24\) after augmentation; they must have \(3, 16, 16\)"):
        next(iter(coco(tmp_path, decode_size=24, albumentations=["HorizontalFlip"]).train_dataloader()))


def test_prediction(tmp_path: Path) -> None:
    folder = write_coco(tmp_path)
    data = coco(tmp_path / "nowhere", images=[str(folder / "val2017")])
    images, indices = next(iter(data.predict_dataloader()))
    assert indices.tolist() == [0, 1, 2, 3]
    assert [number_of(image.numpy() / 255) for image in images] == [13, 14, 15, 16]
    assert data.image_files[4].name == "000000000017.jpg"


# ----------------------------------------------------------------------------------------------------------- bad images


def cmyk(file: Path) -> None:
    Image.new("CMYK", (30, 20), (0, 200, 100, 0)).save(file)


def gray(file: Path) -> None:
    Image.new("L", (30, 20), 77).save(file)


def one_pixel(file: Path) -> None:
    Image.new("RGB", (1, 1), (8, 8, 8)).save(file)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def text(file: Path) -> None:
    file.write_text("no image")


def cut(file: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file)
    file.write_bytes(file.read_bytes()[:-800])


def bomb(file: Path) -> None:
    """A PNG of 20,000 × 20,000 pixels in a few kilobytes: more than twice what Pillow warns of."""
    Image.new("1", (20_000, 20_000)).save(file, format="PNG")


def missing(file: Path) -> None:
    file.unlink()


@pytest.mark.parametrize("make", [cmyk, gray, one_pixel])
def test_any_color_model_and_size_is_converted(tmp_path: Path, make: Callable[[Path], None]) -> None:
    folder = write_coco(tmp_path)
    make(folder / "val2017" / "000000000014.jpg")
    data = coco(tmp_path, bad="stop", image_size=8)
    images = torch.cat([batch[0] for batch in data.test_dataloader()])
    assert images.shape == (5, 3, 8, 8)
    if make is gray:
        assert (images[1] == 77).all()
    if make is cmyk:
        red, green, blue = (float(channel.float().mean()) for channel in images[1])
        assert red > 240
        assert green < 80
        assert 130 < blue < 180
    assert data.num_unreadable == 0


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("make", [empty, text, cut, bomb])
def test_an_unreadable_image_is_skipped_and_counted_or_stops_with_a_sentence(
    tmp_path: Path, make: Callable[[Path], None], num_workers: int
) -> None:
    folder = write_coco(tmp_path)
    file = folder / "val2017" / "000000000014.jpg"
    make(file)
    data = coco(tmp_path, num_workers=num_workers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        batches = list(data.test_dataloader())
    assert [len(batch[0]) for batch in batches] == [len(batch[1]) for batch in batches] == [3, 1]
    assert [number_of(image.numpy() / 255) for batch in batches for image in batch[0]] == [13, 15, 16, 17]
    assert [texts[0] for batch in batches for texts in batch[2]] == [captions_of(n)[0] for n in (13, 15, 16, 17)]
    assert data.num_unreadable == 1
    with pytest.raises(ValueError, match=rf"^{file} can't be read as an image") as raised:
        list(coco(tmp_path, bad="stop", num_workers=num_workers).test_dataloader())
    assert "Traceback" not in str(raised.value)


def test_the_next_samples_replace_a_batch_of_which_none_can_be_read(tmp_path: Path) -> None:
    folder = write_coco(tmp_path)
    empty(folder / "val2017" / "000000000014.jpg")
    data = coco(tmp_path, batch_size=1)
    with pytest.warns(UserWarning, match="It is skipped"):
        batches = list(data.test_dataloader())
    assert [number_of(image.numpy() / 255) for batch in batches for image in batch[0]] == [13, 15, 15, 16, 17]
    assert [batch[2][0][0] for batch in batches] == [captions_of(n)[0] for n in (13, 15, 15, 16, 17)]
    for number in range(1, 12):
        empty(folder / "train2017" / f"{number:012d}.jpg")
    trained = coco(tmp_path, batch_size=1, val_fraction=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inputs = [batch[0] for batch in trained.train_dataloader()]
    assert {number_of(image.numpy() / 255) for batch in inputs for image in batch} == {12} and len(inputs) == 60


def test_a_split_without_a_single_readable_image_stops(tmp_path: Path) -> None:
    folder = write_coco(tmp_path)
    for number in range(13, 18):
        empty(folder / "val2017" / f"{number:012d}.jpg")
    with (
        pytest.warns(UserWarning, match="It is skipped"),
        pytest.raises(ValueError, match="None of the 5 images of a split can be read"),
    ):
        list(coco(tmp_path).test_dataloader())


def test_pictures_show_the_images_whose_captions_are_in_the_first_batch(tmp_path: Path) -> None:
    folder = write_coco(tmp_path)
    empty(folder / "val2017" / "000000000013.jpg")
    data = coco(tmp_path)
    with pytest.warns(UserWarning, match="It is skipped"):
        _, _, references = next(iter(data.test_dataloader()))
    images = data.evaluation_images("test", torch.arange(len(references)))
    assert [number_of(image.numpy()) for image in images] == [14, 15, 16]
    assert [texts[0] for texts in references] == [captions_of(n)[0] for n in (14, 15, 16)]


def test_annotations_of_ones_own(tmp_path: Path) -> None:
    """Ids as text, names with folders, other letter case, and accents composed otherwise than on the disk."""
    folder = write_coco(tmp_path, num_train=6)
    names = {1: "indoor/a.jpg", 2: "indoor/sub/a.jpg", 3: "été.jpg", 4: "Hund.JPG", 5: "windows\\a.jpg", 6: "犬.jpg"}
    written = {3: unicodedata.normalize("NFD", "été.jpg"), 4: "hund.jpg", 5: "windows/a.jpg"}
    content = annotations(list(names), "train2017")
    for entry in content["images"]:
        number = entry["id"]
        entry |= {"id": f"img_{number}", "file_name": names[number]}
        target = folder / "train2017" / written.get(number, names[number])
        target.parent.mkdir(parents=True, exist_ok=True)
        (folder / "train2017" / f"{number:012d}.jpg").rename(target)
    for entry in content["annotations"]:
        entry["image_id"] = f"img_{entry['image_id']}"
    (folder / "annotations" / "captions_train2017.json").write_text(json.dumps(content), encoding="utf-8-sig")
    data = coco(tmp_path, bad="stop", val_fraction=0.0)
    data.setup("fit")
    assert [file.relative_to(folder / "train2017").as_posix() for file in data.files("train")] == [
        written.get(number, names[number]) for number in names
    ]
    batches = list(data.evaluation_dataloader("train"))
    assert [number_of(image.numpy() / 255) for batch in batches for image in batch[0]] == list(names)
    assert [texts[0] for batch in batches for texts in batch[2]] == [captions_of(n)[0] for n in names]


def test_missing_images_are_skipped_and_counted_or_stop(tmp_path: Path) -> None:
    folder = write_coco(tmp_path)
    for number in (2, 3):
        missing(folder / "train2017" / f"{number:012d}.jpg")
    data = coco(tmp_path)
    with pytest.warns(UserWarning, match="left out: 2 images whose file is missing"):
        data.setup("fit")
    assert sorted(numbers(data, "train") + numbers(data, "val")) == [1, *range(4, 13)]
    with pytest.raises(ValueError, match=rf"000000000002\.jpg is not in {folder / 'train2017'}; repair the data, or"):
        coco(tmp_path, bad="stop").setup("fit")
    for file in (folder / "train2017").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match=r"None of the 12 images with captions is in .*train2017; put COCO's images"):
        coco(tmp_path).setup("fit")


# --------------------------------------------------------------------------------------------------------------- ranks


def test_two_ranks_see_what_one_process_with_twice_the_batch_sees(tmp_path: Path) -> None:
    write_coco(tmp_path)
    single = coco(tmp_path, batch_size=6)
    whole = list(single.train_dataloader())
    fetch = single.train_dataloader().fetch
    lengths = single._samples[2]
    ranks = [
        BatchLoader(fetch, len(lengths), 3, training=True, rank=rank, world_size=2, lengths=lengths) for rank in (0, 1)
    ]
    steps = list(zip(*ranks, strict=True))
    assert len(steps) == len(whole) > 3
    for step, (images, tokens) in zip(steps, whole, strict=True):
        assert torch.equal(torch.cat([part[0] for part in step]), images)
        widest = tokens.shape[1]
        padded = [torch.nn.functional.pad(part[1], (0, widest - part[1].shape[1])) for part in step]
        assert torch.equal(torch.cat(padded), tokens)


# ------------------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"year": 2015}, "year is 2015; it must be 2014 or 2017"),
        ({"image_size": 4}, "image_size is 4; it must be at least 8"),
        ({"decode_size": 4}, "decode_size is 4; it must be at least 8"),
        ({"normalization": "zscore"}, "normalization is zscore; it must be imagenet or scale"),
        ({"features": "all"}, "features is all; it must be grid or pooled"),
        ({"bad": "warn"}, "bad is warn; it must be skip"),
        ({"pretrained": "hub"}, "pretrained is 'hub' without a backbone"),
        ({"batch_size": 0}, "batch_size is 0; it must be at least 1"),
        ({"val_fraction": 1.0}, "val_fraction is 1.0; it must be in \\[0, 1\\)"),
        ({"subset": 0}, "subset is 0; it must be at least 1"),
        ({"captions_per_image": 0}, "captions_per_image is 0; it must be at least 1"),
        ({"min_count": 0}, "min_count is 0; it must be at least 1"),
        ({"max_length": 0}, "max_length is 0; it must be at least 1"),
        ({"num_workers": -1}, "num_workers is -1; it must be at least 0"),
    ],
)
def test_settings_out_of_range_are_named(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        coco(tmp_path, **settings)

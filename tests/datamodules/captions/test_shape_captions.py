"""ShapeCaptions: captions are true of the pixels, in the grammar, reproducible, and in one split only."""

import re

import numpy as np
import pytest
import torch

from common.vocabulary import decode_caption, split_words
from datamodules import ShapeCaptions
from datamodules.captions.caption_data_module import Split
from datamodules.captions.shape_scenes import COLORS, KINDS, paint_scenes

SHAPE = rf"a (small|large) ({'|'.join(COLORS)}) ({'|'.join(KINDS)})"
SENTENCE = re.compile(rf"{SHAPE} (left of|right of|above|below) {SHAPE}")


@pytest.fixture(scope="module")
def data() -> ShapeCaptions:
    made = ShapeCaptions(num_train=200, num_test=60, batch_size=16)
    made.setup("fit")
    made.setup("test")
    return made


def test_every_sentence_is_true_of_the_boxes_and_both_orders_occur(data: ShapeCaptions) -> None:
    """Parsed back and checked against the boxes of the painted masks, not against what the sentence was made from."""
    layout = data.layout(train=True)
    scenes = paint_scenes(layout, seed=0)
    sides = (scenes.boxes[..., 2:] - scenes.boxes[..., :2]).max(-1)
    for scene, captions in enumerate(data.read(train=True).captions):
        assert len(set(captions)) == 2
        parsed = [SENTENCE.fullmatch(caption) for caption in captions]
        assert parsed[0] is not None
        assert parsed[1] is not None
        described = [(match.groups()[:3], match.groups()[4:], match.group(4)) for match in parsed if match]
        assert described[0][0] == described[1][1]
        assert described[0][1] == described[1][0]
        for shape, (one, other, relation) in enumerate(described):
            box, beside = scenes.boxes[scene, shape], scenes.boxes[scene, 1 - shape]
            holds = {
                "left of": box[2] <= beside[0],
                "right of": box[0] >= beside[2],
                "above": box[3] <= beside[1],
                "below": box[1] >= beside[3],
            }
            assert holds[relation]
            between = (box[:2] + box[2:] - beside[:2] - beside[2:]) / 2
            across, along = sorted(np.abs(between))
            assert along > across  # the relation named is the one of the axis that dominates
            assert (relation in ("left of", "right of")) == (np.abs(between).argmax() == 0)
            assert one[0] == ("large" if sides[scene, shape] > 11 else "small")
            assert one != other
            assert KINDS[layout.kinds[scene, shape]] == one[2]
            assert list(COLORS)[layout.colors[scene, shape]] == one[1]


def test_the_vocabulary_is_that_of_the_grammar_even_before_setup() -> None:
    fresh = ShapeCaptions(num_train=400)
    words = {"a", "small", "large", *COLORS, *KINDS, "left", "right", "of", "above", "below"}
    assert set(fresh.vocabulary[4:]) == words
    assert len(fresh.vocabulary) == 4 + len(words) == 24
    assert fresh.input_shape == (3, 48, 48)
    assert fresh._painted == {}  # not a pixel was drawn for it


def test_no_caption_is_longer_than_the_limit(data: ShapeCaptions) -> None:
    texts = [text for captions in data.captions("train") + data.captions("test") for text in captions]
    lengths = {len(split_words(text)) for text in texts}
    assert lengths == {9, 10}
    assert data.max_length == 10
    assert not data.left_out


def test_batches(data: ShapeCaptions) -> None:
    vocabulary = data.vocabulary
    images, tokens = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert images.shape == (16, 3, 48, 48)
    assert images.dtype == torch.float32
    assert -1 <= images.min() < -0.5 < 0.5 < images.max() <= 1
    assert tokens.dtype == torch.int64
    train = data.references("train", torch.arange(180))
    flat = [text for texts in train for text in texts]
    assert all(decode_caption(row, vocabulary) in flat for row in tokens.tolist())
    batches = list(data.val_dataloader())
    assert [len(batch[0]) for batch in batches] == [16, 4]
    seen = [texts for batch in batches for texts in batch[2]]
    assert seen == data.references("val", torch.arange(20)) == data.captions("val")
    first = [decode_caption(row, vocabulary) for batch in batches for row in batch[1].tolist()]
    assert first == [texts[0] for texts in seen]
    pixels = torch.cat([batch[0] for batch in batches]).float() / 255
    assert torch.equal(pixels, data.evaluation_images("val", torch.arange(20)))
    shown = data.on_after_batch_transfer(batches[0], 0)[0]
    assert torch.allclose(data.evaluation_inputs("val", torch.arange(16)), shown)


def test_images_stand_beside_their_own_captions(data: ShapeCaptions) -> None:
    layout = data.layout(train=False)
    painted = paint_scenes(layout, seed=1).images
    batches = list(data.test_dataloader())
    assert torch.equal(torch.cat([batch[0] for batch in batches]), torch.from_numpy(painted))
    assert [texts for batch in batches for texts in batch[2]] == data.read(train=False).captions
    # In training the images come shuffled: each is found by its pixels, and its caption must be one of its own.
    drawn = {image.tobytes(): i for i, image in enumerate(paint_scenes(data.layout(train=True), seed=0).images)}
    captions = data.read(train=True).captions
    for images, tokens in data.train_dataloader():
        for image, row in zip(images.numpy(), tokens.tolist(), strict=True):
            assert decode_caption(row, data.vocabulary) in captions[drawn[image.tobytes()]]


def test_the_same_seed_draws_the_same_and_no_scene_is_in_two_splits(data: ShapeCaptions) -> None:
    again = ShapeCaptions(num_train=200, num_test=60)
    splits: list[Split] = ["train", "val", "test"]
    scenes = {split: data._images(split) for split in splits}
    assert all(torch.equal(again._images(split), images) for split, images in scenes.items())
    assert [len(images) for images in scenes.values()] == [180, 20, 60]
    everything = torch.cat(list(scenes.values())).flatten(1)
    assert len(everything.unique(dim=0)) == 260
    other = ShapeCaptions(num_train=200, num_test=60, draw_seed=1)
    assert not set(map(bytes, other._images("test").flatten(1).numpy())) & set(map(bytes, everything.numpy()))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_train": 9}, "num_train is 9; it must be at least 10"),
        ({"num_test": 0}, "num_test is 0; it must be at least 10"),
        ({"draw_seed": -1}, "draw_seed is -1; it must be at least 0"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ShapeCaptions(**settings)

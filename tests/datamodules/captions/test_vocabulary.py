"""The vocabulary: which words it holds and in which order, and captions that survive the way to ids and back."""

import random
from collections import Counter

import pytest
import torch

from common.caption_words import caption as decoded
from datamodules.captions.vocabulary import END, PAD, SPECIAL, START, UNK, Vocabulary, build_vocabulary, split_words

CAPTIONS = ["A dog sits.", "A cat sits on a dog's bed!", "Two  dogs\nrun; a cat runs."]


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("A man's T-shirt.", ["a", "man's", "t", "shirt"]),
        ("  A \t red,  CAR\n", ["a", "red", "car"]),
        ("'quoted' \"words\" and dogs' tails", ["quoted", "words", "and", "dogs", "tails"]),
        ("24 people @ 7:30", ["24", "people", "7", "30"]),
        ("Ein Café, schön", ["ein", "café", "schön"]),
        ("under_score", ["under", "score"]),
        ("<pad> <start>", ["pad", "start"]),
        ("", []),
        (" .,;'-_ \n", []),
    ],
)
def test_words_of_a_caption(caption: str, words: list[str]) -> None:
    assert split_words(caption) == words


def test_words_are_ordered_by_falling_count_then_alphabet() -> None:
    counts = Counter(word for caption in CAPTIONS for word in split_words(caption))
    words = build_vocabulary(CAPTIONS)
    assert tuple(words[:4]) == SPECIAL == ("<pad>", "<start>", "<end>", "<unk>")
    assert (PAD, START, END, UNK) == (0, 1, 2, 3)
    assert words[4:] == ["a", "cat", "sits", "bed", "dog", "dog's", "dogs", "on", "run", "runs", "two"]
    keys = [(-counts[word], word) for word in words[4:]]
    assert keys == sorted(keys)
    assert set(words[4:]) == set(counts)


def test_min_count_leaves_out_rarer_words_and_nothing_else() -> None:
    assert build_vocabulary(CAPTIONS, min_count=2)[4:] == ["a", "cat", "sits"]
    assert build_vocabulary(CAPTIONS, min_count=4)[4:] == ["a"]


def test_a_caption_is_start_words_end_and_padding() -> None:
    vocabulary = Vocabulary(build_vocabulary(CAPTIONS, min_count=2))
    tokens = vocabulary.encode(["A cat sits", "the cat", "a a a a a a a", ""], max_length=4)
    assert tokens.dtype == torch.int32
    assert tokens.tolist() == [
        [START, 4, 5, 6, END, PAD],
        [START, UNK, 5, END, PAD, PAD],
        [START, 4, 4, 4, 4, END],  # cut, and still ended
        [START, END, PAD, PAD, PAD, PAD],
    ]


def test_models_read_ids_as_they_are_written() -> None:
    words = [f"w{i}" for i in range(50)]
    vocabulary = Vocabulary([*SPECIAL, *words])
    dice = random.Random(0)
    captions = [" ".join(dice.choices(words, k=dice.randint(1, 12))) for _ in range(100)]
    for caption, ids in zip(captions, vocabulary.encode(captions, 12).tolist(), strict=True):
        assert decoded(ids, vocabulary.words) == caption
    assert len(vocabulary) == 54


@pytest.mark.parametrize(
    ("captions", "min_count", "message"),
    [
        (CAPTIONS, 0, "min_count is 0; give 1"),
        (CAPTIONS, 5, "min_count is 5, but no word occurs more than 4 times .* give at most 4"),
        (["...", ""], 1, "captions have no word at all"),
        ([], 1, "captions have no word at all"),
    ],
)
def test_a_vocabulary_without_words_is_refused(captions: list[str], min_count: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_vocabulary(captions, min_count)


def test_words_that_are_no_vocabulary_are_refused() -> None:
    with pytest.raises(ValueError, match="must begin with"):
        Vocabulary(["a", "b"])
    with pytest.raises(ValueError, match="the word 'a' twice"):
        Vocabulary([*SPECIAL, "a", "b", "a"])

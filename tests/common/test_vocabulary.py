"""The vocabulary: its words and their order, and captions encoded as ids and decoded back."""

import random
from collections import Counter

import pytest
import torch

from common.vocabulary import (
    END,
    PAD,
    SPECIAL_WORDS,
    START,
    UNK,
    Vocabulary,
    build_vocabulary,
    decode_caption,
    split_words,
)

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
        ("don’t – stop, 42 x_y 'quoted' ÜBER", ["don’t", "stop", "42", "x", "y", "quoted", "über"]),
        ("", []),
        (" .,;'-_ \n", []),
        ("Cafe\u0301 und café", ["café", "und", "café"]),
        ("हिन्दी में एक कुत्ता।", ["हिन्दी", "में", "एक", "कुत्ता"]),
        ("一只狗在跑。A dog!", ["一", "只", "狗", "在", "跑", "a", "dog"]),
        ("犬が走る", ["犬", "が", "走", "る"]),
        ("Собака бежит по траве.", ["собака", "бежит", "по", "траве"]),
        ("كلبٌ يجري، می\u200cخواهم", ["كلبٌ", "يجري", "می\u200cخواهم"]),
        ("강아지가 뛴다", ["강아지가", "뛴다"]),
        ("a ❤️ 1️⃣ \u0301 party 🎉", ["a", "1", "party"]),
    ],
)
def test_words_of_a_caption(caption: str, words: list[str]) -> None:
    assert split_words(caption) == words


def test_words_are_ordered_by_falling_count_then_alphabet() -> None:
    counts = Counter(word for caption in CAPTIONS for word in split_words(caption))
    words = build_vocabulary(CAPTIONS)
    assert tuple(words[:4]) == SPECIAL_WORDS == ("<pad>", "<start>", "<end>", "<unk>")
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


def test_decoding_inverts_encoding() -> None:
    words = [f"w{i}" for i in range(50)]
    vocabulary = Vocabulary([*SPECIAL_WORDS, *words])
    dice = random.Random(0)
    captions = [" ".join(dice.choices(words, k=dice.randint(1, 12))) for _ in range(100)]
    for caption, ids in zip(captions, vocabulary.encode(captions, 12).tolist(), strict=True):
        assert decode_caption(ids, vocabulary.words) == caption
    assert len(vocabulary) == 54


@pytest.mark.parametrize(
    ("captions", "min_count", "message"),
    [
        (CAPTIONS, 0, "min_count is 0; it must be at least 1"),
        (CAPTIONS, 5, "min_count is 5, but no word occurs more than 4 times .* it must be at most 4"),
        (["...", ""], 1, "captions contain no words"),
        ([], 1, "captions contain no words"),
    ],
)
def test_a_vocabulary_without_words_is_refused(captions: list[str], min_count: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_vocabulary(captions, min_count)


def test_lists_of_words_without_the_special_ones_or_with_duplicates_are_refused() -> None:
    with pytest.raises(ValueError, match="its first four words must be <pad>, <start>, <end>, <unk>"):
        Vocabulary(["a", "b"])
    with pytest.raises(ValueError, match="contains 'a' more than once; each word must have one id"):
        Vocabulary([*SPECIAL_WORDS, "a", "b", "a"])

"""Word vectors from files in GloVe's text format."""

from pathlib import Path

import pytest
import torch

from modules import CaptionRNN
from modules.captioning.word_vectors import load_word_vectors
from tests.modules.captioning.captioning import WORDS


def test_words_of_the_file_get_its_scaled_vectors_and_others_keep_theirs(tmp_path: Path) -> None:
    file = tmp_path / "glove.txt"
    generator = torch.Generator().manual_seed(0)
    wanted = 7 * torch.randn(3, 40, generator=generator)
    lines = [
        f"{word} {' '.join(f'{x:.6f}' for x in row.tolist())}"
        for word, row in zip(("red", "dog", "of"), wanted, strict=True)
    ]
    file.write_text("\n".join(lines) + "\n")
    before = torch.randn(len(WORDS), 40, generator=generator) / 40**0.5
    vectors = before.clone()
    assert load_word_vectors(str(file), WORDS, vectors) == 2
    ids = [WORDS.index("red"), WORDS.index("of")]
    loaded = vectors[ids]
    torch.testing.assert_close(loaded / loaded.std(), wanted[[0, 2]] / wanted[[0, 2]].std(), rtol=1e-4, atol=1e-5)
    assert float(loaded.std()) == pytest.approx(float(before.std()), rel=1e-5)
    others = [i for i in range(len(WORDS)) if i not in ids]
    assert torch.equal(vectors[others], before[others])


def test_a_captioner_is_initialized_with_them(tmp_path: Path) -> None:
    file = tmp_path / "glove.txt"
    file.write_text("dog 1 2 3\nred 1 -1 0\nblue -1 1 0\n")
    table = CaptionRNN((5,), WORDS, 3, word_vectors=str(file)).embedding.weight
    red, blue = table[WORDS.index("red")], table[WORDS.index("blue")]
    assert torch.equal(red, -blue) and float(red[2]) == 0 and float(red[0]) > 0
    assert table.requires_grad


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("red 1 2\n", r"has vectors of 2 numbers \(line 1\), but the model's width is 3; set width to 2"),
        ("dog 1 2 3\nred 1 2\n", r"has vectors of 2 numbers \(line 2\)"),
        ("red 1 2 x\n", "Line 1 of .* is not a word and its numbers"),
        ("dog 1 2 3\nred\n", "Line 2 of .* is not a word and its numbers"),
        ("dog 1 2 3\n", "has none of the 8 words of the captions"),
        ("", "has none of the 8 words"),
    ],
)
def test_refusals(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "glove.txt"
    file.write_text(text)
    with pytest.raises(ValueError, match=sentence):
        CaptionRNN((5,), WORDS, 3, word_vectors=str(file))


def test_files_of_fasttext_and_of_windows(tmp_path: Path) -> None:
    file = tmp_path / "wiki.vec"
    vectors = []
    for text, encoding in [
        ("red 1 2 3\nblue 3 2 1\n", "utf-8"),
        ("2 3\nred 1 2 3\nblue 3 2 1\n", "utf-8"),  # begins with the numbers of words and of values
        ("red 1 2 3\r\nblue 3 2 1\r\n", "utf-8-sig"),
    ]:
        file.write_bytes(text.encode(encoding))
        vectors.append(torch.linspace(-1, 1, 3 * len(WORDS)).reshape(-1, 3))
        assert load_word_vectors(str(file), WORDS, vectors[-1]) == 2
    assert torch.equal(vectors[0], vectors[1]) and torch.equal(vectors[0], vectors[2])

"""Reads pretrained word vectors in GloVe's text format: each line a word and its numbers, separated by spaces.

    the 0.418 0.24968 -0.41242 …

Source: J. Pennington et al., GloVe: Global Vectors for Word Representation, EMNLP 2014;
https://nlp.stanford.edu/projects/glove/

Shapes: V words in the vocabulary, D numbers in a vector.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from common.errors import UserError
from common.user_paths import user_path


def load_word_vectors(file: str, vocabulary: Sequence[str], vectors: Tensor) -> int:
    """Replaces the vectors of the words in the file; the other words keep theirs.

    The file's vectors are scaled to the standard deviation of `vectors`.

    Args:
        file: File of word vectors.
        vocabulary: V words by id.
        vectors: Vectors of the words (V, D), modified in place.

    Returns:
        Number of words replaced.

    Raises:
        ValueError: If the file is missing, has a line in another format, vectors of a length other than D, or none of
            the words.
    """
    path, width = user_path(file), vectors.shape[1]
    if not path.is_file():
        raise UserError(f"word_vectors is {file!r}, and there is no such file; give one in GloVe's text format.")
    ids = {word: i for i, word in enumerate(vocabulary)}
    loaded: dict[int, list[float]] = {}
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            word, *numbers = line.rstrip("\n ").split(" ")
            if number == 1 and len(numbers) == 1 and word.isdecimal() and width > 1:
                continue  # fastText's and word2vec's first line: the numbers of words and of values
            if number > 1 and word not in ids:
                continue  # of millions of lines only the first and those of the vocabulary are parsed
            try:
                values = [float(value) for value in numbers]
            except ValueError:
                values = []
            if not values:
                raise UserError(f"Line {number} of {file} is not a word and its numbers; give GloVe's text format.")
            if len(values) != width:
                raise UserError(
                    f"{file} has vectors of {len(values)} numbers (line {number}), but the model's width is {width}; "
                    f"set width to {len(values)}, or give vectors of {width} numbers."
                )
            if word in ids:
                loaded[ids[word]] = values
    if not loaded:
        raise UserError(
            f"{file} has none of the {len(vocabulary) - 4} words of the captions; give vectors of their language."
        )
    values_of_file = torch.tensor(list(loaded.values()))
    scale = vectors.std() / values_of_file.std().clamp(min=1e-12)
    vectors[list(loaded)] = (values_of_file * scale).to(vectors)
    return len(loaded)

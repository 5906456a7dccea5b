"""Word vectors of a file in GloVe's text format: a word and its numbers a line, with spaces between them.

    the 0.418 0.24968 -0.41242 …

Source: J. Pennington et al., GloVe: Global Vectors for Word Representation, EMNLP 2014;
https://nlp.stanford.edu/projects/glove/

Shapes: V words in the vocabulary, D numbers in a vector.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from common.errors import UserError


def load_word_vectors(file: str, vocabulary: Sequence[str], vectors: Tensor) -> int:
    """Writes the vectors of the words that the file has into `vectors` (V, D), in place; the others stay.

    The file's vectors are scaled so that their numbers spread as those of `vectors` do.

    Returns:
        How many of the words the file has.

    Raises:
        ValueError: no such file, a line in another format, vectors of another length than D, or none of the words.
    """
    path, width = Path(file), vectors.shape[1]
    if not path.is_file():
        raise UserError(f"word_vectors is {file!r}, and there is no such file; give one in GloVe's text format.")
    places = {word: place for place, word in enumerate(vocabulary)}
    found: dict[int, list[float]] = {}
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            word, *numbers = line.rstrip("\n ").split(" ")
            if number > 1 and word not in places:
                continue  # millions of words: only the first line and those that are wanted are looked at closely
            try:
                values = [float(value) for value in numbers]
            except ValueError:
                values = []
            if not values:
                raise UserError(f"Line {number} of {file} is not a word and its numbers; give GloVe's text format.")
            if len(values) != width:
                raise UserError(
                    f"{file} has vectors of {len(values)} numbers (line {number}), but the model's width is {width}; "
                    f"give --model.width {len(values)}, or a file that fits."
                )
            if word in places:
                found[places[word]] = values
    if not found:
        raise UserError(
            f"{file} has none of the {len(vocabulary) - 4} words of the captions; give vectors of their language."
        )
    loaded = torch.tensor(list(found.values()))
    spread = vectors.std() / loaded.std().clamp(min=1e-12)
    vectors[list(found)] = (loaded * spread).to(vectors)
    return len(found)

"""Captions a second through BLEU, ROUGE-L and CIDEr-D, against pycocoevalcap's scorers on the same tokens.

    python -m benchmarks.caption_metrics [--root data] [--rounds R] [--captions N]

Each caption has five references. They are COCO's own if `--root` has annotations of enough images (an image's first
caption against the others), and otherwise random words: their frequencies fall as Zipf's law has it, their number is
spread as in COCO. All are tokenized before; how long that takes is said apart. Both must find the same scores.

Ours count batches of 500 images, as a validation epoch does. `all three` count each batch one after the other, which
saves two of three times of cutting texts into words; nothing is kept from one measurement to the next.
"""

import argparse
import json
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate, islice, product
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import torch
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from torch import Tensor

from benchmarks.timing import Clock, Comparison, Figures, Rate, Variant, one_thread
from modules.caption_metrics.bleu import BLEU
from modules.caption_metrics.caption_metric import CaptionMetric, hashed_words
from modules.caption_metrics.cider import CIDEr
from modules.caption_metrics.ptb_tokenizer import ptb_tokenize
from modules.caption_metrics.rouge import ROUGE

_REFERENCES = 5
_VOCABULARY = 10_000
_WORDS = (10.5, 2.4, 6, 50)  # in a caption: mean, standard deviation, fewest and most
_BATCH = 500
_LARGEST_ERROR = 1e-6
_ALL = "all three"

Corpus = tuple[list[str], list[list[str]]]


def real_captions(root: Path, count: int) -> Corpus | None:
    """The first caption of each of so many images against its others, as COCO's files have them."""
    by_image: dict[int, list[str]] = defaultdict(list)
    for path in sorted((root / "coco" / "annotations").glob("captions_*.json")):
        for one in json.loads(path.read_text(encoding="utf-8"))["annotations"]:
            by_image[one["image_id"]].append(one["caption"])
    images = [captions for captions in by_image.values() if len(captions) > 1][:count]
    return ([first for first, *_ in images], [others for _, *others in images]) if len(images) == count else None


def random_captions(count: int, seed: int = 0) -> Corpus:
    draw = random.Random(seed)
    words = ["".join(letters) for letters in islice(product(ascii_lowercase, repeat=4), _VOCABULARY)]
    frequencies = list(accumulate(1 / rank for rank in range(1, _VOCABULARY + 1)))
    mean, deviation, fewest, most = _WORDS

    def caption() -> str:
        length = min(max(round(draw.gauss(mean, deviation)), fewest), most)
        return " ".join(draw.choices(words, cum_weights=frequencies, k=length)) + "."

    return [caption() for _ in range(count)], [[caption() for _ in range(_REFERENCES)] for _ in range(count)]


def ours(metrics: Sequence[type[CaptionMetric]], corpus: Corpus) -> list[Tensor]:
    hashed_words.cache_clear()
    counting = [metric(str.split) for metric in metrics]
    for start in range(0, len(corpus[0]), _BATCH):
        for metric in counting:
            metric.update(corpus[0][start : start + _BATCH], corpus[1][start : start + _BATCH])
    return [metric.compute() for metric in counting]


def theirs(scorer: Callable[[], Any], corpus: Corpus) -> list[Tensor]:
    captions = {image: [caption] for image, caption in enumerate(corpus[0])}
    score, _ = scorer().compute_score(dict(enumerate(corpus[1])), captions)
    return [torch.as_tensor(score, dtype=torch.float64)]


def measure(way: Callable[[Corpus], list[Tensor]], corpus: Corpus, scores: dict[str, list[Tensor]], name: str) -> Rate:
    start = Clock.now()
    scores[name] = way(corpus)
    return Rate.of(len(corpus[0]), Clock.now() - start)


def main(arguments: Sequence[str] | None = None) -> Comparison:
    """Prints seconds and the ratio to pycocoevalcap, by wall time, as median (smallest-largest), and the largest error.

    Raises:
        ValueError: fewer than two captions, or scores that differ from pycocoevalcap's.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("data"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--captions", type=int, default=40_000)
    given = parser.parse_args(arguments)
    if given.captions < 2:
        raise ValueError(f"captions is {given.captions}; give at least 2.")
    real = real_captions(given.root, given.captions)
    texts = real or random_captions(given.captions)
    start = Clock.now()
    corpus = (
        [" ".join(ptb_tokenize(text)) for text in texts[0]],
        [[" ".join(ptb_tokenize(text)) for text in of_image] for of_image in texts[1]],
    )
    tokenizing = Clock.now() - start

    pairs: dict[str, tuple[type[CaptionMetric], Callable[[], Any]]] = {
        "BLEU": (BLEU, _QuietBleu), "ROUGE-L": (ROUGE, Rouge), "CIDEr-D": (CIDEr, Cider),
    }  # fmt: skip
    scores: dict[str, list[Tensor]] = {}
    ways: dict[str, Callable[[Corpus], list[Tensor]]] = {}
    for name, (metric, scorer) in pairs.items():
        ways |= {f"pycocoevalcap's {name}": partial(theirs, scorer), name: partial(ours, [metric])}
    ways[_ALL] = partial(ours, [metric for metric, _ in pairs.values()])
    variants = {name: Variant(partial(measure, way, corpus, scores, name), by_wall=True) for name, way in ways.items()}
    with one_thread():
        comparison = Comparison(variants, given.rounds)

    print(f"{given.captions:,} {'COCO' if real else 'random'} captions, {given.rounds} rounds, by the wall")
    print(f"tokenized in {tokenizing.wall:.2f} s before")
    print(f"{'':<26}{'s':>8}   × pycocoevalcap's        largest error")
    errors = {}
    for name, together in zip(pairs, scores[_ALL], strict=True):
        reference = f"pycocoevalcap's {name}"
        errors[name] = max(float((found - scores[reference][0]).abs().max()) for found in (*scores[name], together))
        print(f"{reference:<26}{given.captions / comparison.rate(reference):>8.2f}")
        ratio = comparison.ratio(name, reference)
        print(f"{name:<26}{given.captions / comparison.rate(name):>8.2f}  {ratio!s:<24} {errors[name]:.1e}")
    ratio = ratio_of_all(comparison, [f"pycocoevalcap's {name}" for name in pairs])
    print(f"{_ALL:<26}{given.captions / comparison.rate(_ALL):>8.2f}  {ratio}")
    if wrong := [name for name, error in errors.items() if not error < _LARGEST_ERROR]:
        raise ValueError(f"{' and '.join(wrong)} differ from pycocoevalcap's by more than {_LARGEST_ERROR:g}.")
    return comparison


class _QuietBleu(Bleu):  # type: ignore[misc]  # it has no types
    def compute_score(self, references: Any, captions: Any) -> Any:
        return super().compute_score(references, captions, verbose=0)


def ratio_of_all(comparison: Comparison, references: list[str]) -> Figures:
    """How many times as fast all of ours are as all of pycocoevalcap's, round by round."""
    rounds = zip(*(comparison.rates[name] for name in references), strict=True)
    slow = [sum(1 / rate.wall for rate in rates) for rates in rounds]
    return Figures.of([time * rate.wall for time, rate in zip(slow, comparison.rates[_ALL], strict=True)])


if __name__ == "__main__":
    main()

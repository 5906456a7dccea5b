"""Speed of BLEU, ROUGE-L and CIDEr-D, against pycocoevalcap's scorers on the same tokens.

    python -m benchmarks.caption_metrics [--root data] [--rounds R] [--captions N]

Each caption has five references. They are COCO's if `--root` has annotations of enough images (an image's first caption
against the others), and otherwise random words, whose frequencies follow Zipf's law and whose number is distributed as
in COCO. All are tokenized first; the time of that is printed separately. Both sides must return the same scores.

Ours update with batches of 500 images, as in a validation epoch. `all three` update on the same batch in turn, which
splits texts into words once instead of three times; nothing is cached between measurements.
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

from benchmarks.timing import Clock, Comparison, Rate, Summary, Variant, one_thread
from common.errors import UserError
from modules.caption_metrics.bleu import BLEU
from modules.caption_metrics.caption_metric import CaptionMetric, hashed_words
from modules.caption_metrics.cider import CIDEr
from modules.caption_metrics.ptb_tokenizer import ptb_tokenize
from modules.caption_metrics.rouge import ROUGE

_REFERENCES = 5
_VOCABULARY = 10_000
_WORDS = (10.5, 2.4, 6, 50)  # words of a caption: mean, standard deviation, minimum and maximum
_BATCH = 500
_LARGEST_ERROR = 1e-6
_ALL = "all three"

Corpus = tuple[list[str], list[list[str]]]


def real_captions(root: Path, count: int) -> Corpus | None:
    """Returns the first caption of each of `count` COCO images, the others as references; None if there are fewer."""
    by_image: dict[int, list[str]] = defaultdict(list)
    for path in sorted((root / "coco" / "annotations").glob("captions_*.json")):
        for one in json.loads(path.read_text(encoding="utf-8"))["annotations"]:
            by_image[one["image_id"]].append(one["caption"])
    images = [captions for captions in by_image.values() if len(captions) > 1][:count]
    return ([first for first, *_ in images], [others for _, *others in images]) if len(images) == count else None


def random_captions(count: int, seed: int = 0) -> Corpus:
    """Returns `count` captions of random words, each with references."""
    rng = random.Random(seed)
    words = ["".join(letters) for letters in islice(product(ascii_lowercase, repeat=4), _VOCABULARY)]
    frequencies = list(accumulate(1 / rank for rank in range(1, _VOCABULARY + 1)))
    mean, deviation, minimum, maximum = _WORDS

    def caption() -> str:
        length = min(max(round(rng.gauss(mean, deviation)), minimum), maximum)
        return " ".join(rng.choices(words, cum_weights=frequencies, k=length)) + "."

    return [caption() for _ in range(count)], [[caption() for _ in range(_REFERENCES)] for _ in range(count)]


def ours(metrics: Sequence[type[CaptionMetric]], corpus: Corpus) -> list[Tensor]:
    hashed_words.cache_clear()
    updated = [metric(str.split) for metric in metrics]
    for start in range(0, len(corpus[0]), _BATCH):
        for metric in updated:
            metric.update(corpus[0][start : start + _BATCH], corpus[1][start : start + _BATCH])
    return [metric.compute() for metric in updated]


def theirs(scorer: Callable[[], Any], corpus: Corpus) -> list[Tensor]:
    captions = {image: [caption] for image, caption in enumerate(corpus[0])}
    score, _ = scorer().compute_score(dict(enumerate(corpus[1])), captions)
    return [torch.as_tensor(score, dtype=torch.float64)]


def measure(
    compute: Callable[[Corpus], list[Tensor]], corpus: Corpus, scores: dict[str, list[Tensor]], name: str
) -> Rate:
    start = Clock.now()
    scores[name] = compute(corpus)
    return Rate.of(len(corpus[0]), Clock.now() - start)


def main(arguments: Sequence[str] | None = None) -> Comparison:
    """Prints seconds and the ratio to pycocoevalcap, by wall time, as median (smallest-largest), and the largest error.

    Raises:
        ValueError: If there are fewer than two captions, or scores differ from pycocoevalcap's.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("data"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--captions", type=int, default=40_000)
    options = parser.parse_args(arguments)
    if options.captions < 2:
        raise UserError(f"captions is {options.captions}; it must be at least 2.")
    real = real_captions(options.root, options.captions)
    texts = real or random_captions(options.captions)
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
    functions: dict[str, Callable[[Corpus], list[Tensor]]] = {}
    for name, (metric, scorer) in pairs.items():
        functions |= {f"pycocoevalcap's {name}": partial(theirs, scorer), name: partial(ours, [metric])}
    functions[_ALL] = partial(ours, [metric for metric, _ in pairs.values()])
    variants = {
        name: Variant(partial(measure, function, corpus, scores, name), by_wall=True)
        for name, function in functions.items()
    }
    with one_thread():
        comparison = Comparison(variants, options.rounds)

    print(f"{options.captions:,} {'COCO' if real else 'random'} captions, {options.rounds} rounds, wall time")
    print(f"tokenized before in {tokenizing.wall:.2f} s")
    print(f"{'':<26}{'s':>8}   × pycocoevalcap's        largest error")
    errors = {}
    for name, of_all in zip(pairs, scores[_ALL], strict=True):
        reference = f"pycocoevalcap's {name}"
        errors[name] = max(float((score - scores[reference][0]).abs().max()) for score in (*scores[name], of_all))
        print(f"{reference:<26}{options.captions / comparison.rate(reference):>8.2f}")
        ratio = comparison.ratio(name, reference)
        print(f"{name:<26}{options.captions / comparison.rate(name):>8.2f}  {ratio!s:<24} {errors[name]:.1e}")
    ratio = ratio_of_all(comparison, [f"pycocoevalcap's {name}" for name in pairs])
    print(f"{_ALL:<26}{options.captions / comparison.rate(_ALL):>8.2f}  {ratio}")
    if wrong := [name for name, error in errors.items() if not error < _LARGEST_ERROR]:
        raise ValueError(f"{' and '.join(wrong)} differ from pycocoevalcap's by more than {_LARGEST_ERROR:g}.")
    return comparison


class _QuietBleu(Bleu):  # type: ignore[misc]  # it has no types
    def compute_score(self, references: Any, captions: Any) -> Any:
        return super().compute_score(references, captions, verbose=0)


def ratio_of_all(comparison: Comparison, references: list[str]) -> Summary:
    """Returns the speed of all of ours relative to all of pycocoevalcap's, within each round."""
    rounds = zip(*(comparison.rates[name] for name in references), strict=True)
    times = [sum(1 / rate.wall for rate in rates) for rates in rounds]
    return Summary.of([time * rate.wall for time, rate in zip(times, comparison.rates[_ALL], strict=True)])


if __name__ == "__main__":
    main()

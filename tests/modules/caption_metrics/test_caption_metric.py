"""BLEU, ROUGE-L and CIDEr-D against pycocoevalcap's, for any order of images, number of processes and bad input."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from modules.caption_metrics.bleu import BLEU
from modules.caption_metrics.caption_metric import CaptionMetric
from modules.caption_metrics.cider import CIDEr
from modules.caption_metrics.rouge import ROUGE

METRICS: list[type[CaptionMetric]] = [BLEU, ROUGE, CIDEr]
SCORERS = {BLEU: Bleu, ROUGE: Rouge, CIDEr: Cider}
Corpus = tuple[list[str], list[list[str]]]


def corpus(images: int, references: Sequence[int], lengths: tuple[int, int], words: int, seed: int = 0) -> Corpus:
    """Sentences of few different words, so that many n-grams are shared, repeated and in another order."""
    draw = random.Random(seed)

    def sentence() -> str:
        return " ".join(f"w{draw.randrange(words)}" for _ in range(draw.randint(*lengths)))

    captions = [sentence() for _ in range(images)]
    return captions, [[sentence() for _ in range(draw.choice(references))] for _ in range(images)]


def score(metric: type[CaptionMetric], texts: Corpus, batch: int = 10**9) -> torch.Tensor:
    counting = metric(str.split)
    for start in range(0, len(texts[0]), batch):
        counting.update(texts[0][start : start + batch], texts[1][start : start + batch])
    return counting.compute()


def expected(metric: type[CaptionMetric], texts: Corpus, capsys: pytest.CaptureFixture[str]) -> Any:
    if metric is CIDEr and not any(map(any, texts[1])):
        return 0.0  # pycocoevalcap stops with an error where no reference has a word
    captions = {image: [caption] for image, caption in enumerate(texts[0])}
    value, _ = SCORERS[metric]().compute_score(dict(enumerate(texts[1])), captions)
    capsys.readouterr()  # Bleu prints
    return value


CORPORA: dict[str, Corpus] = {
    "one image": corpus(1, [5], (5, 9), 6),
    "two images": corpus(2, [5], (5, 9), 6),
    "one reference": corpus(30, [1], (4, 12), 10),
    "five references": corpus(60, [5], (4, 15), 12),
    "one to seven references": corpus(60, [1, 2, 5, 7], (4, 15), 12),
    "shorter than n": corpus(40, [2, 5], (1, 4), 4),
    "some empty": corpus(60, [1, 3], (0, 3), 4),
    "all captions empty": ([""] * 5, corpus(5, [2], (3, 6), 5)[1]),
    "all references empty": (corpus(5, [2], (3, 6), 5)[0], [["", ""]] * 5),
    "nothing but empty": ([""] * 3, [["", ""]] * 3),
    "one word again and again": corpus(20, [3], (1, 9), 1),
    "nothing in common": (["a b c d e"] * 4, [["f g h i", "j k l m n"]] * 4),
    "all the same": (["a man on a horse"] * 6, [["a man on a horse"] * 3] * 6),
    "equal to a reference": (
        ["a b c d", "e f g h i", "b c d e"],
        [["a b c d"], ["x y", "e f g h i"], ["b c d e", "a"]],
    ),
    "longer than 64 words": corpus(8, [2, 3], (60, 140), 30),
    "many": corpus(400, [5], (6, 20), 60),
}


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", CORPORA)
def test_score_is_that_of_pycocoevalcap(
    metric: type[CaptionMetric], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = score(metric, CORPORA[name])
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx(expected(metric, CORPORA[name], capsys), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_order_and_batches_change_no_digit(metric: type[CaptionMetric]) -> None:
    captions, references = CORPORA["one to seven references"]
    whole = score(metric, (captions, references))
    for seed in range(4):
        order = random.Random(seed).sample(range(len(captions)), len(captions))
        texts = (
            [captions[i] for i in order],
            [random.Random(i).sample(references[i], len(references[i])) for i in order],
        )
        assert torch.equal(score(metric, texts, batch=1 + 5 * seed), whole)


@pytest.mark.parametrize("metric", METRICS)
def test_reset_and_an_empty_batch(metric: type[CaptionMetric]) -> None:
    counting = metric(str.split)
    counting.update(*CORPORA["five references"])
    counting.compute()
    counting.reset()
    counting.update([], [])
    counting.update(*CORPORA["one reference"])
    assert torch.equal(counting.compute(), score(metric, CORPORA["one reference"]))


@pytest.mark.parametrize("metric", METRICS)
def test_texts_are_tokenized_as_the_penn_treebank(metric: type[CaptionMetric]) -> None:
    raw, cut = metric(), metric(str.split)
    raw.update(["A man's dog, running.", "Two cats."], [["the man's Dog!"], ["2 cats", "Two cats sleep"]])
    cut.update(["a man 's dog running", "two cats"], [["the man 's dog"], ["2 cats", "two cats sleep"]])
    assert torch.equal(raw.compute(), cut.compute())
    assert raw.compute().sum() > 0


CUTS = (13, 0)  # images of the second process: fewer than the first has, and none


def count_in_processes(rank: int, folder: Path, texts: Corpus) -> None:
    torch.set_num_threads(1)  # a fork has none of its parent's threads
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=2)
    found = {}
    for cut in CUTS:
        for metric in METRICS:
            counting = metric(str.split).to("cpu")  # as a trainer moves a module
            for image in (range(cut, len(texts[0])), range(cut))[rank]:
                counting.update([texts[0][image]], [texts[1][image]])
            found[f"{metric.__name__}, {cut}"] = counting.compute()
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def of_two_processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, torch.Tensor]]:
    """What each process computes of images shared unevenly."""
    folder = tmp_path_factory.mktemp("processes")
    arguments = (folder, CORPORA["one to seven references"])
    torch.multiprocessing.start_processes(count_in_processes, arguments, nprocs=2, start_method="fork")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("metric", METRICS)
def test_two_processes_find_what_one_finds(
    of_two_processes: list[dict[str, torch.Tensor]], metric: type[CaptionMetric], cut: int
) -> None:
    alone = score(metric, CORPORA["one to seven references"])
    for found in of_two_processes:
        assert torch.equal(found[f"{metric.__name__}, {cut}"], alone)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    ("captions", "references", "sentence"),
    [
        (["a", "b"], [["a"]], "There are 2 captions, but references of 1 image"),
        (["a", "b"], [["a"], []], r"The references of image 1 are \[\]; give a list of at least one string"),
        (["a"], ["a dog"], "The references of image 0 are 'a dog'; give a list"),
        ("a dog", [["a"]], "are one string; give a list"),
        (["a", None], [["a"], ["b"]], "A caption or reference is None, a NoneType; give strings"),
        (["a"], [["a", 3]], "A caption or reference is 3, a int; give strings"),
    ],
)
def test_bad_input_is_named(metric: type[CaptionMetric], captions: Any, references: Any, sentence: str) -> None:
    counting = metric()
    with pytest.raises(ValueError, match=sentence):
        counting.update(captions, references)
    assert counting.images == 0


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
@pytest.mark.parametrize("metric", METRICS)
def test_no_score_of_nothing(metric: type[CaptionMetric]) -> None:
    with pytest.raises(ValueError, match=f"{metric.__name__} has no images; call update"):
        metric().compute()

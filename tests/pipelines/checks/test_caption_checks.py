"""Correct captioners pass the checks before training, and each kind of bug fails the check made for it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules import ShapeCaptions
from modules import CaptionLSTM, CaptionRNN
from modules.captioning.decoding import Memory, State
from pipelines.checks import caption_checks
from pipelines.checks.caption_checks import check_caption_overfitting, run_caption_checks
from tests.command_line import run_pipeline

VOCABULARY = ["<pad>", "<start>", "<end>", "<unk>", *"abcdefgh"]


class SeesTheWordToCome(CaptionLSTM):
    """Its input is the word to predict: it learns to copy and can't generate."""

    def forward_decoder(self, memory: Memory, words: Tensor) -> Tensor:
        return super().forward_decoder(memory, torch.cat([words[:, 1:], words[:, -1:]], 1))


class SeesNoImage(CaptionLSTM):
    """Its image features are the same for every image."""

    def encode(self, inputs: Tensor) -> Memory:
        return super().encode(torch.zeros_like(inputs))


class ForgetsWhenItWrites(CaptionLSTM):
    """Restarts from the initial state in each decoding step."""

    def step(self, words: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        return super().step(words, self.start(memory), memory)


def some_captions() -> tuple[Tensor, Tensor]:
    """Features (12, 6) and words (12, 6): START, three or four words, END and PAD."""
    chance = torch.Generator().manual_seed(0)
    words = torch.randint(4, 12, (12, 6), generator=chance)
    words[:, 0] = 1
    words[:, 5] = 2
    words[::2, 4], words[::2, 5] = 2, 0
    return torch.randn(12, 6, generator=chance), words


@pytest.mark.parametrize(
    ("model", "passes"),
    [
        (CaptionLSTM, True),
        (CaptionRNN, True),
        (SeesTheWordToCome, False),
        (SeesNoImage, False),
        (ForgetsWhenItWrites, False),
    ],
)
def test_captions_are_overfit(model: Any, passes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caption_checks, "_RATES", (1e-2,))
    monkeypatch.setattr(caption_checks, "_STEPS", 250)
    torch.manual_seed(0)
    untrained = model((6,), VOCABULARY, width=32, dropout=0.5, label_smoothing=0.1)
    before = {name: value.clone() for name, value in untrained.state_dict().items()}
    result = check_caption_overfitting(untrained, *some_captions())
    assert result.passed is passes, result.figures
    if passes:
        assert "12 of 12 captions reproduced word for word" in result.figures
    assert all(torch.equal(value, before[name]) for name, value in untrained.state_dict().items())


@pytest.mark.slow
def test_all_checks_of_a_captioner_from_pixels() -> None:
    torch.manual_seed(0)
    data = ShapeCaptions(num_train=20, num_test=10)
    model = CaptionLSTM(data.input_shape, data.vocabulary, 32, channels=(8, 8, 16))
    results = {result.name: result for result in run_caption_checks(model, data)}
    assert list(results) == ["gradients", "parameters", "overfitting"]
    assert all(result.passed for result in results.values()), results
    assert "18 of 18 captions" in results["overfitting"].figures  # two images are held out for validation


def test_the_command_prints_a_line_for_each_check(tmp_path: Path) -> None:
    tiny = ["--data.num_train", "11", "--data.num_test", "10", "--model.width", "32", "--model.channels", "[8, 8, 16]"]
    finished = run_pipeline("check", ["--config", "caption_lstm", *tiny], tmp_path)
    assert finished.code == 0, finished.err
    lines = finished.out.splitlines()
    assert lines[0].startswith("check: CaptionLSTM") and [line.split()[1] for line in lines[1:]] == ["ok"] * 3

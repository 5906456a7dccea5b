"""Gradients over time: against a loop with the gradients by hand, their decay, and what a run draws and logs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from callbacks import StateGradients
from callbacks.state_gradients import GradientNorms, gradient_norms, state_gradient_picture
from datamodules import ShapeCaptions
from modules import CaptionLSTM, CaptionRNN, CaptionTransformer
from modules.captioning.recurrent_gradients import lstm_step_backward, rnn_step_backward
from tests.helpers import trainer_of
from tests.modules.captioning.captioning import WORDS, random_captions, scrambled

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning:lightning")

INPUTS = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
CAPTIONS = random_captions(3, 5)  # the first has five words and END


def d_logits(model: Any, hidden: Tensor, target: Tensor) -> Tensor:
    """Gradient of the loss of one word at the state that predicts it."""
    scores = model.output(hidden)
    return (scores.softmax(1) - F.one_hot(target, len(WORDS))) @ model.output.weight


def test_norms_of_an_rnn_equal_backpropagation_through_time_by_hand() -> None:
    model = scrambled(CaptionRNN((4, 6), WORDS, width=5))
    rnn, words = model.rnn, CAPTIONS[:1]
    with torch.no_grad():
        (h,) = model.start(model.encode(INPUTS[:1]))
        hs, vectors = [h], model.embed(words[:, :-1])[0]
        for x in vectors:
            hs.append((x @ rnn.weight_ih_l0.T + rnn.bias_ih_l0 + hs[-1] @ rnn.weight_hh_l0.T + rnn.bias_hh_l0).tanh())
        every = last = torch.zeros(1, 5, dtype=torch.float64)
        expected_all, expected_last = [], []
        steps = len(hs) - 1
        for t in range(steps, -1, -1):
            if t > 0:
                local = d_logits(model, hs[t], words[:, t])
                every, last = every + local / steps, last + (local if t == steps else 0)
            expected_all.append(float(every.norm()))
            expected_last.append(float(last.norm()))
            if t > 0:
                every, last = (
                    rnn_step_backward(g, hs[t], vectors[t - 1 : t], hs[t - 1], rnn.weight_ih_l0, rnn.weight_hh_l0)[1]
                    for g in (every, last)
                )
    found = gradient_norms(model, INPUTS[:1], words)
    assert found.lengths.tolist() == [steps]
    torch.testing.assert_close(found.of_all[0, 0], torch.tensor(expected_all[::-1], dtype=torch.float64))
    torch.testing.assert_close(found.of_last[0, 0], torch.tensor(expected_last[::-1], dtype=torch.float64))


def test_norms_of_an_lstms_states_and_cells_equal_those_by_hand() -> None:
    model = scrambled(CaptionLSTM((4, 6), WORDS, width=5, attention=False))
    lstm, words = model.lstm, CAPTIONS[:1]
    with torch.no_grad():
        states = [model.start(model.encode(INPUTS[:1]))]
        for word in words[0, :-1]:
            states.append(model.step(word[None], states[-1], ())[1])
        vectors = model.embed(words[:, :-1])[0]
        dh, dc = d_logits(model, states[-1][0], words[:, -1]), torch.zeros(1, 5, dtype=torch.float64)
        expected = [[float(dh.norm()), float(dc.norm())]]
        for t in range(len(vectors), 0, -1):
            parameters = (lstm.weight_ih_l0, lstm.weight_hh_l0, lstm.bias_ih_l0 + lstm.bias_hh_l0)
            hidden, cells = states[t - 1]
            _, dh, dc, *_ = lstm_step_backward(dh, dc, vectors[t - 1 : t], hidden, cells, *parameters)
            expected.append([float(dh.norm()), float(dc.norm())])
    found = gradient_norms(model, INPUTS[:1], words).of_last[:, 0]
    torch.testing.assert_close(found, torch.tensor(expected[::-1], dtype=torch.float64).T)


@pytest.mark.parametrize("kind", [CaptionRNN, CaptionLSTM])
def test_each_caption_counts_to_its_own_end(kind: Any) -> None:
    model = scrambled(kind((4, 6), WORDS, width=5))
    together = gradient_norms(model, INPUTS, CAPTIONS)
    assert len(set(together.lengths.tolist())) > 1
    for n, length in enumerate(together.lengths.tolist()):
        alone = gradient_norms(model, INPUTS[n : n + 1], CAPTIONS[n : n + 1, : length + 1])
        for a, b in zip(alone[:2], together[:2], strict=True):
            torch.testing.assert_close(a[:, 0], b[:, n, : length + 1])
            assert (b[:, n, length + 1 :] == 0).all()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_curves_and_ratio_of_a_decay_known_in_advance() -> None:
    lengths = torch.tensor([4, 2])
    norms = torch.zeros(1, 2, 5)
    for n, (length, scale) in enumerate(zip(lengths.tolist(), (3.0, 7.0), strict=True)):
        for t in range(length + 1):
            norms[0, n, t] = scale * 0.5 ** (length - t)  # halves with each step back
    measured = GradientNorms(norms, norms, lengths)
    torch.testing.assert_close(measured.back_from_last()[0], 0.5 ** torch.arange(5.0))
    torch.testing.assert_close(measured.ratios(), torch.tensor([(0.5**4 * 0.5**2) ** 0.5]))
    torch.testing.assert_close(measured.over_time()[0, -1], norms[0, 0, 4])  # the longer caption alone
    torch.testing.assert_close(measured.over_time()[0, 0], (norms[0, 0, 0] * norms[0, 1, 0]).sqrt())


def test_small_recurrent_weights_vanish_and_large_ones_explode() -> None:
    ratios = []
    for scale in (0.3, 3.0):
        model: Any = CaptionRNN((4, 6), WORDS, width=64).double()
        with torch.no_grad():
            model.rnn.weight_hh_l0.copy_(scale * torch.eye(64))
            model.rnn.weight_ih_l0.mul_(1e-3)  # states stay near 0, where tanh has slope 1
            model.initial.weight.mul_(1e-6)
            for bias in (model.rnn.bias_ih_l0, model.rnn.bias_hh_l0, model.initial.bias):
                bias.zero_()
        ratios.append(float(gradient_norms(model, INPUTS[:1], CAPTIONS[:1]).ratios()))
    assert ratios[0] == pytest.approx(0.3**6, rel=0.05) and ratios[1] > 10


def test_a_run_draws_each_epoch_and_logs_both_ratios(tmp_path: Path) -> None:
    data = ShapeCaptions(num_train=40, num_test=10, batch_size=12)
    model = CaptionLSTM(data.input_shape, data.vocabulary, width=8, channels=(4, 4, 4))
    trainer = trainer_of(tmp_path, StateGradients(8, every_n_epochs=2), max_epochs=3, num_sanity_val_steps=0)
    trainer.fit(model, data)
    steps = len(data.train_dataloader())
    files = sorted(file.name for file in (tmp_path / "pictures" / "state_gradients").iterdir())
    assert files == [f"{n * steps:08d}.png" for n in (2, 3)]
    for name in ("h", "c"):
        assert 0 < float(trainer.logged_metrics[f"state_gradients/{name}_ratio"]) < 1e3


def test_both_panels_show_every_state() -> None:
    norms = gradient_norms(scrambled(CaptionLSTM((4, 6), WORDS, width=5)), INPUTS, CAPTIONS)
    both = state_gradient_picture(("h", "c"), {"now": norms}).astype(int)
    for color in ((31, 119, 180), (255, 127, 14)):
        shown = np.asarray((abs(both - color) < 40).all(2))
        assert shown[:, : shown.shape[1] // 2].sum() > 100 and shown[:, shown.shape[1] // 2 :].sum() > 100


def test_refusals() -> None:
    with pytest.raises(ValueError, match="num_captions is 0; it must be at least 1"):
        StateGradients(num_captions=0)
    transformer = CaptionTransformer((4, 6), WORDS, width=8, num_heads=2)
    with pytest.raises(ValueError, match="CaptionTransformer passes no states from word to word"):
        StateGradients().setup(trainer_of(Path(), max_epochs=1), transformer, "fit")

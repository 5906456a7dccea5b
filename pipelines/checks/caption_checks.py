"""Sanity checks of a captioner before training: gradients, parameters, and overfitting 50 captions.

    gradients      backpropagation against central differences, as for a classifier (`classifier_checks.py`)
    parameters     every parameter receives a finite, nonzero gradient
    overfitting    the loss of 50 captions, or 8 if the model is large, falls below 0.03, and greedy decoding
                   reproduces them word for word

Overfitting exercises every part of a captioner: image features that reach the decoder, targets shifted by one word,
causal masks, and decoding that feeds back its own words as teacher forcing feeds the true ones.

Source: https://cs231n.github.io/assignments2024/assignment3/ (overfitting a captioner on a small data set)

Shapes: B captions with an image each, T words.
"""

from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from common.vocabulary import UNK, decode_caption
from pipelines.checks.check_sizes import SMALL, check_sizes
from pipelines.checks.gradient_checks import check_gradients, check_parameters
from pipelines.checks.sanity_checkable import Report, Result, training_loss, without_regularization
from pipelines.console.formatting import count

_CAPTIONS = 50
_CAPTIONS_OF_LARGE = 8  # of a large network (`check_sizes.py`), which needs 2.7 s for a step on 50
_LOSS = 0.03  # the course requires 0.1 for the RNN, 0.05 for the LSTM and 0.03 for the Transformer
_REPRODUCED = 0.98
_STEPS = 600  # for each of these learning rates
_RATES = (2e-3, 5e-4)
_DECODE_EVERY = 10  # steps


def check_caption_overfitting(
    model: Any, inputs: Tensor, words: Tensor, report: Report = lambda _: None, rates: Sequence[float] | None = None
) -> Result:
    """Overfits a few captions with Adam on the full batch, then generates them greedily.

    Args:
        model: Untrained captioner; it is not changed.
        inputs: Preprocessed inputs (B, ...), all different.
        words: Captions (B, T + 1): START, the words, END and PAD.
        report: Called with the loss after each step.
        rates: Learning rates, tried one after the other; None takes 2e-3 and then 5e-4.
    """
    plain: Any = without_regularization(model)
    max_length = words.shape[1]
    references = [decode_caption(row, plain.vocabulary) for row in words.tolist()]
    best = ""
    for rate in _RATES if rates is None else rates:
        learner = deepcopy(plain)
        optimizer = torch.optim.Adam([p for p in learner.parameters() if p.requires_grad], lr=rate)
        for step in range(1, _STEPS + 1):
            loss = training_loss(learner, (inputs, words))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
            optimizer.step()
            value = float(loss.detach())
            report(f"loss {value:.3f} after {count(step, 'step')} at learning rate {rate:g}")
            if step < _STEPS and (value >= _LOSS or step % _DECODE_EVERY):
                continue
            captions = learner.caption(inputs, beam_size=1, max_length=max_length)
            correct = sum(caption == reference for caption, reference in zip(captions, references, strict=True))
            best = f"loss {value:.4f}, {correct} of {count(len(references), 'caption')} reproduced word for word"
            if value < _LOSS and correct >= _REPRODUCED * len(references):
                return Result(
                    "overfitting", True, f"{best} after {count(step, 'step')} of Adam, learning rate {rate:g}"
                )
    return Result("overfitting", False, f"{best} (limits {_LOSS} and {_REPRODUCED:.0%})")


def first_captions(data: Any, number: int) -> tuple[Tensor, Tensor]:
    """Returns the first training captions of a data module: preprocessed inputs (B, ...) and words (B, T + 1)."""
    data.prepare_data()
    data.setup("fit")
    data.batch_size = min(number, len(data.captions("train")))
    inputs, words, _ = data.on_after_batch_transfer(next(iter(data.evaluation_dataloader("train"))), 0)
    return inputs, words


def run_caption_checks(model: Any, data: Any, report: Report = lambda _: None) -> Iterable[Result]:
    """Runs all checks on the first training images and yields each result as soon as it is available.

    Args:
        model: Untrained captioner; it is not changed.
        data: Caption data module.
        report: Called with the current check and its progress.
    """
    inputs, words = first_captions(data, _CAPTIONS)
    sizes = check_sizes(model, inputs, words[:, :-1])
    large, few = sizes != SMALL, sizes.gradients
    if large:
        inputs, words = inputs[:_CAPTIONS_OF_LARGE], words[:_CAPTIONS_OF_LARGE]
    yield check_gradients(
        model, inputs[:few], words[:few], lambda text: report(f"gradients: {text}"), sizes.coordinates
    )
    report("parameters")
    yield check_parameters(model, inputs, words)
    # UNK is never generated, so a caption with a word outside the vocabulary can't be reproduced.
    known = (words != UNK).all(1)
    rates = _RATES[::-1] if large else _RATES  # at 2e-3, the loss of coco_transformer is still 0.09 after 120 steps
    yield check_caption_overfitting(
        model, inputs[known], words[known], lambda text: report(f"overfitting: {text}"), rates
    )

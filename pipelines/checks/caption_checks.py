"""What the course checks of a captioner before it is trained: gradients, parameters, and 50 captions learned by heart.

    gradients      backpropagation against central differences, as for a classifier (`sanity.py`)
    parameters     each of them is reached by a finite gradient that is not all zero
    overfitting    50 captions are learned to a loss below 0.03, and greedy decoding gives them back word by word

The last needs every part of a captioner: an image that arrives, words that are shifted by one, masks that hide what is
to come, and decoding that reads what it wrote as training read what was true.

Source: https://cs231n.github.io/assignments2024/assignment3/ (overfitting a captioner on a small data set)

Shapes: B captions with an image each, T words.
"""

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor

from common.vocabulary import UNK, decode_caption
from pipelines.checks.gradient_checks import check_gradients, check_parameters
from pipelines.checks.sanity_checkable import Report, Result, training_loss, without_regularization

_CAPTIONS = 50
_LOSS = 0.03  # the course asks for 0.1 of the RNN, 0.05 of the LSTM and 0.03 of the Transformer
_REPRODUCED = 0.98
_STEPS = 600  # for each of these learning rates
_RATES = (2e-3, 5e-4)
_LOOK_EVERY = 10  # steps


def check_learned_by_heart(model: Any, inputs: Tensor, words: Tensor, report: Report = lambda _: None) -> Result:
    """Learns captions by heart with Adam on all of them at once, then writes them greedily.

    Args:
        model: a captioner as built; it is left as it is.
        inputs: (B, ...), preprocessed, no two alike.
        words: (B, T + 1), START first, then END and PAD.
        report: told the loss as it falls.
    """
    plain: Any = without_regularization(model)
    plain.label_smoothing = 0.0
    longest = words.shape[1]
    wanted = [decode_caption(row, plain.vocabulary) for row in words.tolist()]
    best = ""
    for rate in _RATES:
        learner = deepcopy(plain)
        optimizer = torch.optim.Adam([p for p in learner.parameters() if p.requires_grad], lr=rate)
        for step in range(1, _STEPS + 1):
            loss = training_loss(learner, (inputs, words))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
            optimizer.step()
            value = float(loss.detach())
            report(f"loss {value:.3f} after {step} steps at learning rate {rate:g}")
            if step < _STEPS and (value >= _LOSS or step % _LOOK_EVERY):
                continue
            said = learner.caption(inputs, beam_size=1, max_length=longest)
            right = sum(mine == its for mine, its in zip(said, wanted, strict=True))
            best = f"loss {value:.4f}, {right} of {len(wanted)} captions reproduced word for word"
            if value < _LOSS and right >= _REPRODUCED * len(wanted):
                return Result("overfitting", True, f"{best} after {step} steps of Adam, learning rate {rate:g}")
    return Result("overfitting", False, f"{best} (limits {_LOSS} and {_REPRODUCED:.0%})")


def run_caption_checks(model: Any, data: Any, report: Report = lambda _: None) -> Iterable[Result]:
    """All checks, one after the other, each result as soon as it is known, on the first training images.

    Args:
        model: untrained; it is left as it is.
        data: a data module of captions.
        report: told which check is under way and how far it is.
    """
    data.prepare_data()
    data.setup("fit")
    count = min(_CAPTIONS, len(data.captions("train")))
    data.batch_size = count
    inputs, words, _ = data.on_after_batch_transfer(next(iter(data.evaluation_dataloader("train"))), 0)
    yield check_gradients(model, inputs[:10], words[:10], lambda text: report(f"gradients: {text}"))
    report("parameters")
    yield check_parameters(model, inputs, words)
    # A word that the vocabulary lacks is never said, so a caption with one can't be reproduced.
    known = (words != UNK).all(1)
    yield check_learned_by_heart(model, inputs[known], words[known], lambda text: report(f"overfitting: {text}"))

"""Prints the gradients by hand of a topic beside autograd's and central differences: `pipelines.check --by-hand`."""

from collections.abc import Callable
from typing import Any

import torch

from modules.captioning.captioner import Captioner
from pipelines.checks.by_hand.comparison import AUTOGRAD_TOLERANCE, compare_by_hand, find_by_hand
from pipelines.checks.caption_checks import first_captions
from pipelines.checks.classifier_checks import read_splits
from pipelines.checks.gradient_checks import GRADIENT_TOLERANCE
from pipelines.checks.sanity_checkable import Report, Result, Split
from pipelines.console.formatting import count

_EXAMPLES = 10


def print_by_hand(model: Any, data: Any, seed: int, report: Report = lambda _: None) -> bool:
    """Prints a row for the loss and for each parameter, and returns whether all gradients agree.

    Raises:
        ValueError: If there are no gradients of the model by hand.
    """
    find_by_hand(model)  # before the data is read
    batch = _examples(model, data)
    print(
        f"by hand: {type(model).__name__}, training loss of {count(len(batch[0]), 'example')} of "
        f"{type(data).__name__} in float64; seed {seed}"
    )
    results: list[Result] = []
    width = max(len(name) for name, _ in model.named_parameters())
    row: Callable[..., str] = "{:<5} {:<{}} {}".format
    for result in compare_by_hand(model, batch, report):
        if not results:
            print(row("", "", width, f"{'largest':>10}   {'relative error to':>29}"))
            print(row("", "", width, f"{'by hand':>10}   {'autograd':>8}   {'finite differences':>18}   function"))
        report("")
        print(row("ok" if result.passed else "FAIL", result.name, width, result.figures).rstrip(), flush=True)
        results.append(result)
    different = sum(not result.passed for result in results)
    verdict = f"{different} of {len(results)} differ" if different else f"all {len(results)} agree"
    print(f"{verdict} (limits {AUTOGRAD_TOLERANCE:.0e} and {GRADIENT_TOLERANCE:.0e})")
    return not different


def _examples(model: Any, data: Any) -> Split:
    """Returns a small batch of preprocessed training examples, drawn by the seed."""
    if isinstance(model, Captioner):
        return first_captions(data, _EXAMPLES)
    images, labels = read_splits(data)["train"]
    drawn = torch.randperm(len(labels), generator=torch.Generator().manual_seed(torch.initial_seed()))[:_EXAMPLES]
    batch: Split = data.on_after_batch_transfer((images[drawn], labels[drawn]), 0)
    return batch

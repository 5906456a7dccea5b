"""Checks a topic's model and data before training: initial loss, gradients, overfitting, splits.

python -m pipelines.check --config svm --data.preprocessing whiten

python -m pipelines.check --config svm --by-hand          # gradients by hand beside autograd's and finite differences

It takes the options of `pipelines.train fit`, builds the same model and data, and writes no files. Exit status 0 means
that all checks passed, 1 that a check failed, 2 that the command line is wrong. `checks/classifier_checks.py` describes
the checks of a classifier, `caption_checks.py`, `gan_checks.py` and `simclr_checks.py` beside it those of the others;
`checks/by_hand` has backpropagation by hand.
"""

import os
import shutil
import sys
from collections.abc import Iterable
from typing import Any

from common.errors import UserError
from common.messages.counting import count
from pipelines.console.run_command import run_command
from pipelines.run.topics import topic_list, topics
from pipelines.train import name_first, resolve

_VERDICTS = {True: "ok", False: "FAIL", None: "n/a"}


def usage() -> str:
    """Returns the help text."""
    lines = ["usage: python -m pipelines.check --config TOPIC|FILE [--by-hand] [--KEY VALUE ...]", ""]
    lines += ["Checks the initial loss, the gradients, overfitting of 50 images and the splits before training."]
    lines += [
        "--by-hand compares the gradients of every parameter by hand with autograd and finite differences instead."
    ]
    lines += ["", *topic_list()]
    return "\n".join([*lines, "", "What each setting means:  python -m pipelines.train fit --help"])


def check(arguments: list[str]) -> bool:
    """Builds the model and data of a command line, prints a line per check and returns whether all checks passed.

    With --by-hand it prints a line per parameter instead, and returns whether all gradients agree.

    Raises:
        ValueError: If the command line is wrong, or the model or data can't be checked.
    """
    by_hand = "--by-hand" in arguments
    arguments = name_first([argument for argument in arguments if argument != "--by-hand"])
    given = {argument.partition("=")[0] for argument in arguments}
    if "--ckpt_path" in given:
        raise UserError("--ckpt_path is set, but check is for models before training; set --config alone.")
    if not given & {"--config", "-c"}:
        raise UserError(f"There is nothing to check; set --config to a topic ({', '.join(topics())}) or a YAML file.")
    resolved, topic = resolve(["fit", *arguments])
    # These import torch and Lightning, which takes four seconds; a typing error is reported before.
    from callbacks.generated_captions import CaptionGenerator
    from modules import GAN, SimCLR
    from pipelines.checks.caption_checks import run_caption_checks
    from pipelines.checks.classifier_checks import read_splits, run_checks
    from pipelines.checks.gan_checks import run_gan_checks
    from pipelines.checks.sanity_checkable import Result, SanityCheckable
    from pipelines.checks.simclr_checks import run_simclr_checks
    from pipelines.run.build import build

    built = build(resolved, topic)
    model: Any = built.model
    data, seed = built.datamodule, built.config["fit"]["seed_everything"]
    if by_hand:
        from pipelines.checks.by_hand.table import print_by_hand

        return print_by_hand(model, data, seed, _progress)
    if not any(isinstance(model, kind) for kind in (GAN, SimCLR, CaptionGenerator, SanityCheckable)):
        raise UserError(
            f"{type(model).__name__} lacks loss(logits, labels) and expected_initial_loss(), which the checks need; "
            "use a topic of the project, or add both to the model."
        )
    if not isinstance(model, GAN) and not model.automatic_optimization and _trainable(model):
        raise UserError(
            f"{type(model).__name__} takes the steps of its optimizers itself (automatic_optimization is False), but "
            "the checks need the loss that training_step returns before a step; set automatic_optimization to True."
        )
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(
        f"check: {type(model).__name__}, {count(parameters, 'parameter')}, on {type(data).__name__}; seed {seed}",
        flush=True,
    )
    passed = True
    results: Iterable[Result]
    if isinstance(model, CaptionGenerator):
        results = run_caption_checks(model, data, _progress)
    elif isinstance(model, SimCLR):
        results = run_simclr_checks(model, data, _progress)
    else:
        run: Any = run_gan_checks if isinstance(model, GAN) else run_checks
        results = run(model, read_splits(data), lambda batch: data.on_after_batch_transfer(batch, 0), _progress)
    for result in results:
        _progress()
        print(f"{result.name:<13} {_VERDICTS[result.passed]:<5} {result.figures}", flush=True)
        passed &= result.passed is not False
    return passed


def _trainable(model: Any) -> bool:
    return any(parameter.requires_grad for parameter in model.parameters())


def _progress(text: str = "") -> None:
    """Shows the progress of a check on a line of its own, overwritten by the next one; only in a terminal."""
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":  # a dumb terminal can't clear a line
        width = shutil.get_terminal_size().columns - 1
        print(f"\r{text[:width]}\x1b[K", end="", file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Runs a command line; exit status 1 if a check failed, 2 after a user's mistake."""
    run_command(usage, check, arguments)


if __name__ == "__main__":
    main()

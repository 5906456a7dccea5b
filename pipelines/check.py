"""Checks a topic's model and data before they are trained: initial loss, gradients, overfitting, splits.

python -m pipelines.check --config svm --data.preprocessing whiten

It takes what `pipelines.train fit` takes, builds the same model and data, and writes nothing. It ends with status 0 if
all is well, 1 if a check failed, 2 if the command line can't be carried out. `sanity.py` explains the checks of a
classifier, `caption_sanity.py` those of a captioner.
"""

import shutil
import sys

from common.errors import UserError
from pipelines.console.run_command import run_command
from pipelines.run.topics import topics
from pipelines.train import resolve

_VERDICTS = {True: "ok", False: "FAIL", None: "n/a"}


def usage() -> str:
    """The help that needs no topic."""
    lines = ["usage: python -m pipelines.check --config TOPIC|FILE [--KEY VALUE ...]", "", "topics:"]
    lines += [f"  {name:<10} {text}" for name, text in topics().items()]
    return "\n".join([*lines, "", "What each setting means:  python -m pipelines.train fit --help"])


def check(arguments: list[str]) -> bool:
    """Builds the model and data of a command line, prints a line for each check, and says whether all are well.

    Raises:
        ValueError: a command line that can't be understood, or a model or data that can't be checked.
    """
    given = {argument.partition("=")[0] for argument in arguments}
    if "--ckpt_path" in given:
        raise UserError("--ckpt_path was given, but check looks at models before training; give --config alone.")
    if not given & {"--config", "-c"}:
        raise UserError(f"Say what to check: --config with a topic ({', '.join(topics())}) or a YAML file.")
    resolved, topic = resolve(["fit", *arguments])
    # They import torch and Lightning: four seconds that a typing error need not wait for.
    from callbacks.generated_captions import WritesCaptions
    from pipelines.checks.caption_checks import run_caption_checks
    from pipelines.checks.classifier_checks import read_splits, run_checks
    from pipelines.checks.sanity_checkable import SanityCheckable
    from pipelines.run.build import build

    built = build(resolved, topic)
    model, data, seed = built.model, built.datamodule, built.config["fit"]["seed_everything"]
    writes = isinstance(model, WritesCaptions)
    if not writes and not isinstance(model, SanityCheckable):
        raise UserError(
            f"{type(model).__name__} has no loss(logits, labels) and expected_initial_loss() that could be checked; "
            "give a topic that classifies or captions images, or add both to the model."
        )
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(
        f"check: {type(model).__name__}, {parameters:,} parameters, on {type(data).__name__}; seed {seed}",
        flush=True,
    )
    passed = True
    if writes:
        results = run_caption_checks(model, data, _progress)
    else:
        results = run_checks(model, read_splits(data), lambda batch: data.on_after_batch_transfer(batch, 0), _progress)
    for result in results:
        _progress()
        print(f"{result.name:<13} {_VERDICTS[result.passed]:<5} {result.figures}", flush=True)
        passed &= result.passed is not False
    return passed


def _progress(text: str = "") -> None:
    """Shows how far a check is, on a line that the next one overwrites; nothing if nobody looks."""
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns - 1
        print(f"\r{text[:width]}\x1b[K", end="", file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Runs a command line; ends with status 1 if a check failed, 2 and one sentence if it can't be carried out."""
    run_command(usage, check, arguments)


if __name__ == "__main__":
    main()

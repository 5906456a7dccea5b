"""Exports a trained classifier for other programs: ONNX, TorchScript or safetensors.

python -m pipelines.export logs/svm/RUN --format onnx                # the best checkpoint, as RUN/model.onnx
python -m pipelines.export logs/svm/RUN/checkpoints/last.ckpt --format torchscript --out svm.pt
python -m pipelines.export logs/svm/RUN --format safetensors         # the tensors without a graph

The input of an exported graph is `images`, uint8 (B, C, H, W), as decoded from a file; the output is `logits` (B, K) in
float32. The preprocessing fitted to the run's training images is part of the graph, and B is dynamic. The logits are
those of `pipelines.train predict` in float32: batch norm uses its running statistics, dropout is off, and test-time
augmentation is included. The metadata are `class_names` and `config` in JSON, `input` and `output` as text:

    onnx          metadata_props of the model
    torchscript   the extra file metadata.json
    safetensors   metadata of the file; tensor names are those of the state_dict, and `preprocessing.NAME`

Before the file appears under its name, it is loaded again and its logits on random images are compared with the
checkpoint's.

Shapes: B images in a batch, C channels, H×W pixels, K classes.
"""

import json
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.atomic_files import atomic_write
from common.errors import UserError
from common.yaml_text import load_yaml, read_yaml_file
from pipelines.console.option_parser import OptionParser
from pipelines.console.outputs import check_out_file
from pipelines.console.run_command import run_command
from pipelines.run.run_folder import RunFolder, as_typed, find_run
from pipelines.tracking.secrets import hide_secrets

if TYPE_CHECKING:
    from pipelines.exporting.export_formats import Predict

FORMATS = {
    "onnx": ("model.onnx", "graph for ONNX Runtime and other engines; needs the packages of requirements-export.txt"),
    "torchscript": ("model.pt", "graph for torch.jit.load in Python and C++"),
    "safetensors": ("model.safetensors", "tensors and configuration, without a graph"),
}
_ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_CHECKED_BATCHES = (1, 2, 7)
_TOLERANCE = 1e-4  # relative to the largest logit; another order of float32 sums differs by far less
_MIN_SCALE = 0.01  # lower bound of the largest logit; those of an untrained network may all be near 0


def usage() -> str:
    """Returns the help text."""
    lines = ["usage: python -m pipelines.export RUN|CHECKPOINT --format FORMAT [--out FILE]", "", "formats:"]
    lines += [f"  {name:<12} {text}" for name, (_, text) in FORMATS.items()]
    lines += ["", "A graph maps uint8 images (B, C, H, W) to logits (B, K); the preprocessing is part of it."]
    lines += ["The default of --out is model.onnx, model.pt or model.safetensors in the run's folder."]
    return "\n".join(lines)


def export(path: str, form: str, out: Path | None) -> bool:
    """Exports a checkpoint and prints input and output; returns False, without a file, if the logits differ.

    Args:
        path: Checkpoint file or run folder.
        form: Format, one of `FORMATS`.
        out: File to write; None for the default name in the run's folder.

    Raises:
        ValueError: If the format or checkpoint is unknown, a package is missing, or the model can't be exported.
        OSError: If the file can't be written.
    """
    if form not in FORMATS:
        raise UserError(f"There is no format {form!r}; it must be one of {', '.join(FORMATS)}.")
    run, checkpoint = find_run(path)
    missing = [name for name in _ONNX_PACKAGES if form == "onnx" and find_spec(name) is None]
    if missing:
        raise UserError(f"ONNX needs {' and '.join(missing)}; install with pip install -r requirements-export.txt.")
    out = out or run.path / FORMATS[form][0]
    check_out_file(out, [checkpoint, *run.files_to_keep()])
    try:
        with atomic_write(out) as temporary:  # a file that can't be written fails here, before the model is loaded
            _export(run, checkpoint, form, temporary)
    except _LogitsDifferError:
        print(f"{out} was not written: its logits differ from the checkpoint's.", file=sys.stderr)
        return False
    print(f"written  {as_typed(out)}, {out.stat().st_size:,} bytes")
    return True


class _LogitsDifferError(Exception):
    """The logits of the exported file differ from the checkpoint's."""


def _export(run: RunFolder, checkpoint: Path, form: str, temporary: Path) -> None:
    from pipelines.exporting import export_formats  # imports torch: seconds
    from pipelines.run.load_model import restore

    model, data = export_formats.untrained(run, checkpoint)
    restore(model, data, checkpoint)
    metadata = _metadata(run, model, data)
    print(f"export   {type(model).__name__} on {type(data).__name__}, {as_typed(checkpoint)}")
    print(f"input    {metadata['input']}")
    print(f"output   {metadata['output']}")
    print(f"classes  {', '.join(data.class_names)}", flush=True)
    write = {
        "onnx": export_formats.write_onnx,
        "torchscript": export_formats.write_torchscript,
        "safetensors": export_formats.write_safetensors,
    }[form]
    try:
        with _quiet():
            error, tolerance = compare(write(model, data, metadata, temporary, run, checkpoint), model, data)
    except OSError:
        raise
    except Exception as failure:  # exporters and readers raise errors of many classes
        raise UserError(
            f"{type(model).__name__} can't be exported as {form} ({_reason(failure)}); try another format."
        ) from failure
    good = error <= tolerance
    batches = ", ".join(map(str, _CHECKED_BATCHES))
    print(
        f"check    {'ok' if good else 'FAIL'}: largest difference of the logits from the checkpoint's {error:.1e}, "
        f"tolerance {tolerance:.1e}, on random images in batches of {batches}"
    )
    if not good:
        raise _LogitsDifferError


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the warnings, logs and output of torch's exporters, such as the deprecation of TorchScript."""
    with warnings.catch_warnings(), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore")
        logging.disable()
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def _reason(failure: BaseException) -> str:
    while failure.__cause__ is not None:  # the message of the exporter's own error is a report of many lines
        failure = failure.__cause__
    lines = str(failure).strip().splitlines() or [type(failure).__name__]
    return lines[0].rstrip(".")


def _metadata(run: RunFolder, model: Any, data: Any) -> dict[str, str]:
    shape = ", ".join(map(str, data.image_shape))
    return {
        "class_names": json.dumps(list(data.class_names), ensure_ascii=False),
        "config": json.dumps(hide_secrets(load_yaml(read_yaml_file(run.config), str(run.config)))),
        "input": f"images uint8 (B, {shape}), pixels in [0, 255], before the {data.preprocessing.method} preprocessing",
        "output": f"logits float32 (B, {model.num_classes}); their softmax is the probability of each class",
    }


def compare(predict: "Predict", model: Any, data: Any) -> tuple[float, float]:
    """Returns the largest difference between the logits of export and checkpoint on random images, and the tolerance.

    The difference is infinite if the shapes differ or a logit is not finite.
    """
    import torch

    from pipelines.exporting.export_formats import logits

    generator = torch.Generator().manual_seed(0)
    largest, scale = 0.0, _MIN_SCALE
    for size in _CHECKED_BATCHES:
        images = torch.randint(256, (size, *data.image_shape), generator=generator, dtype=torch.uint8)
        with torch.no_grad():
            expected, exported = logits(model, data, images), predict(images)
        comparable = exported.shape == expected.shape and bool((exported - expected).isfinite().all())
        largest = max(largest, float((exported - expected).abs().max()) if comparable else float("inf"))
        scale = max(scale, float(expected.abs().max()))
    return largest, _TOLERANCE * scale


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command line; exit status 1 if the export differs, 2 after a user's mistake."""
    run_command(usage, _work, arguments)


def _work(arguments: list[str]) -> bool:
    parser = OptionParser(prog="python -m pipelines.export", add_help=False)
    parser.add_argument("checkpoint")
    parser.add_argument("--format", required=True)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    return export(given.checkpoint, given.format, given.out)


if __name__ == "__main__":
    main()

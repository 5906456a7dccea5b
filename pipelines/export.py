"""Exports a trained classifier for other programs: ONNX, TorchScript or safetensors.

python -m pipelines.export logs/svm/RUN --format onnx                # the best checkpoint, as RUN/model.onnx
python -m pipelines.export logs/svm/RUN/checkpoints/last.ckpt --format torchscript --out svm.pt
python -m pipelines.export logs/svm/RUN --format safetensors         # the tensors alone, to rebuild the model from

An exported graph takes `images` as they come out of a file, uint8 (B, C, H, W), and gives `logits` (B, K) in float32:
the preprocessing that was fitted to the run's training images is part of it, so nobody has to repeat it elsewhere. B
may differ from call to call. The logits are those of `pipelines.train predict` in float32: batch norm uses its running
figures, dropout does nothing, and where `test` averages over mirrored images, so does the graph. What the run knew goes
along as text, `class_names` and `config` in JSON, `input` and `output` in words:

    onnx          properties of the model (metadata_props)
    torchscript   the extra file metadata.json
    safetensors   the file's metadata; tensors are called as in the model's state_dict, and `preprocessing.NAME`

Before the file gets its name it is read back, and its logits are compared with the checkpoint's own on random images.

Shapes: B images in a batch, C channels, H×W pixels, K classes.
"""

import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import UserError
from pipelines.console.option_parser import OptionParser
from pipelines.console.run_command import run_command
from pipelines.run.run_folder import RunFolder, as_typed, find_run

if TYPE_CHECKING:
    from pipelines.exporting.export_formats import Predict

FORMATS = {
    "onnx": ("model.onnx", "a graph for ONNX Runtime and others; needs requirements-export.txt"),
    "torchscript": ("model.pt", "a graph for torch.jit.load in Python and C++"),
    "safetensors": ("model.safetensors", "the tensors and the configuration, no graph"),
}
_ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_CHECKED_BATCHES = (1, 2, 7)
_TOLERANCE = 1e-4  # of the largest logit; sums in float32 in another order differ by far less
_LEAST_LOGIT = 0.01  # of an untrained network all may be near 0


def usage() -> str:
    """The help."""
    lines = ["usage: python -m pipelines.export RUN|CHECKPOINT --format FORMAT [--out FILE]", "", "formats:"]
    lines += [f"  {name:<12} {text}" for name, (_, text) in FORMATS.items()]
    lines += ["", "A graph takes uint8 images (B, C, H, W) and gives logits (B, K); preprocessing is inside it."]
    lines += ["Without --out the file is model.onnx, model.pt or model.safetensors in the run's folder."]
    return "\n".join(lines)


def export(path: str, form: str, out: Path | None) -> bool:
    """Writes the file and prints what it takes and gives; false if its logits differ, and then there is no file.

    Args:
        path: a checkpoint, or a run's folder.
        form: one of `FORMATS`.
        out: the file to write; None for one in the run's folder.

    Raises:
        ValueError: an unknown format or checkpoint, packages that are missing, or a model that can't be exported.
        OSError: the file can't be written.
    """
    if form not in FORMATS:
        raise UserError(f"There is no format {form!r}; give one of {', '.join(FORMATS)}.")
    run, checkpoint = find_run(path)
    missing = [name for name in _ONNX_PACKAGES if form == "onnx" and find_spec(name) is None]
    if missing:
        raise UserError(f"ONNX needs {' and '.join(missing)}; pip install -r requirements-export.txt brings it.")
    out = out or run.path / FORMATS[form][0]
    temporary = _reserve(out)
    try:
        return _export(run, checkpoint, form, temporary, out)
    finally:
        temporary.unlink(missing_ok=True)


def _reserve(out: Path) -> Path:
    """An empty file beside the one to be written, under a temporary name: what can't be written fails here."""
    if out.is_dir():
        raise UserError(f"{out} is a folder; give --out the name of a file in it.")
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    temporary.touch()
    return temporary


def _export(run: RunFolder, checkpoint: Path, form: str, temporary: Path, out: Path) -> bool:
    from pipelines.exporting import export_formats  # torch and Lightning: seconds that a typing error need not wait for
    from pipelines.run.restore import restore

    model, data = export_formats.untrained(run)
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
            error, tolerance = compare(write(model, data, metadata, temporary, run), model, data)
    except OSError:
        raise
    except Exception as failure:  # the exporters and readers raise whatever they stumble over
        raise UserError(
            f"{type(model).__name__} can't be exported as {form} ({_reason(failure)}); try another format."
        ) from failure
    good = error <= tolerance
    batches = ", ".join(map(str, _CHECKED_BATCHES))
    print(
        f"check    {'ok' if good else 'FAIL'}: read back, its logits differ from the checkpoint's by {error:.1e} at "
        f"most, tolerance {tolerance:.1e}, on random images in batches of {batches}"
    )
    if good:
        temporary.replace(out)
        print(f"written  {as_typed(out)}, {out.stat().st_size:,} bytes")
    else:
        print(f"{out} was not written: it would not classify as the checkpoint does.", file=sys.stderr)
    return good


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps to itself what torch warns of, logs and prints: how it traces, and that TorchScript is old."""
    with warnings.catch_warnings(), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore")
        logging.disable()
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def _reason(failure: BaseException) -> str:
    while failure.__cause__ is not None:  # the exporter's own words are a report on its stages
        failure = failure.__cause__
    lines = str(failure).strip().splitlines() or [type(failure).__name__]
    return lines[0].rstrip(".")


def _metadata(run: RunFolder, model: Any, data: Any) -> dict[str, str]:
    import yaml

    shape = ", ".join(map(str, data.image_shape))
    return {
        "class_names": json.dumps(list(data.class_names), ensure_ascii=False),
        "config": json.dumps(yaml.safe_load(run.config.read_text())),
        "input": f"images uint8 (B, {shape}), pixels 0 to 255; {data.preprocessing.method} preprocessing is inside",
        "output": f"logits float32 (B, {model.num_classes}), one for each class; their softmax are probabilities",
    }


def compare(predict: "Predict", model: Any, data: Any) -> tuple[float, float]:
    """The largest difference between the logits of an export and of its checkpoint on random images, and the tolerance.

    The difference is infinite where the shapes differ or something is not a finite number.
    """
    import torch

    from pipelines.exporting.export_formats import logits

    chance = torch.Generator().manual_seed(0)
    largest, scale = 0.0, _LEAST_LOGIT
    for size in _CHECKED_BATCHES:
        images = torch.randint(256, (size, *data.image_shape), generator=chance, dtype=torch.uint8)
        with torch.no_grad():
            wanted, got = logits(model, data, images), predict(images)
        comparable = got.shape == wanted.shape and bool((got - wanted).isfinite().all())
        largest = max(largest, float((got - wanted).abs().max()) if comparable else float("inf"))
        scale = max(scale, float(wanted.abs().max()))
    return largest, _TOLERANCE * scale


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command line; ends with status 1 if the export differs, 2 and one sentence if it can't be carried out."""
    run_command(usage, _work, arguments)


def _work(arguments: list[str]) -> bool:
    parser = OptionParser(prog="python -m pipelines.export", add_help=False, allow_abbrev=False)
    parser.add_argument("checkpoint")
    parser.add_argument("--format", required=True)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    return export(given.checkpoint, given.format, given.out)


if __name__ == "__main__":
    main()

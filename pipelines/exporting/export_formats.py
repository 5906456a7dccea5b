"""Writes a classifier in one format per function; each loads its file again and returns a function that predicts.

Shapes: B images in a batch, C channels, H×W pixels, K classes.
"""

import copy
import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torchmetrics import Metric

from common.errors import UserError
from datamodules import ImageDataModule
from modules import Classifier
from pipelines.run import load_model
from pipelines.run.run_folder import RunFolder

Predict = Callable[[Tensor], Tensor]  # uint8 (B, C, H, W) to logits (B, K)

_TRACED_BATCH = 2  # a batch of 1 would be traced as a constant


def untrained(run: RunFolder, checkpoint: Path) -> tuple[Any, Any]:
    """Returns the untrained classifier and data module of a run, with the class names of its checkpoint.

    Raises:
        ValueError: If the run does not classify images.
    """
    model, data = load_model.untrained(run, checkpoint)
    if not isinstance(model, Classifier) or not isinstance(data, ImageDataModule):
        raise UserError(
            f"{type(model).__name__} on {type(data).__name__} can't be exported; use a run that classifies images."
        )
    return model.eval(), data


def logits(model: Any, data: Any, images: Tensor) -> Tensor:
    """Returns the logits (B, K) of images, uint8 (B, C, H, W), after the run's preprocessing."""
    outputs: Tensor = model.test_logits(data.on_after_batch_transfer((images, None), 0)[0])
    return outputs.float()


def as_module(model: Any, data: Any) -> LightningModule:
    """Returns preprocessing and model as one module from images, uint8 (B, C, H, W), to logits (B, K)."""

    class DeviceBuffer:
        """A buffer whose `to` does nothing: a traced `.to(device)` would fix the graph to the device of the export."""

        def __init__(self, tensor: Tensor) -> None:
            self.tensor = tensor

        def to(self, device: torch.device) -> Tensor:
            return self.tensor

    class Deployed(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = copy.deepcopy(model)
            for name, child in list(self.model.named_children()):
                if isinstance(child, Metric):
                    delattr(self.model, name)  # state of an evaluation, not exported
            for name, tensor in data.preprocessing.fitted.items():
                self.register_buffer(name, tensor.clone())

        def forward(self, images: Tensor) -> Tensor:
            own = copy.copy(data)  # with the buffers of this module
            own.preprocessing = copy.copy(data.preprocessing)
            own.preprocessing.fitted = {
                name: DeviceBuffer(buffer) for name, buffer in self.named_buffers(recurse=False)
            }
            return logits(self.model, own, images)

    return Deployed().eval()


def write_onnx(
    model: Any, data: Any, metadata: dict[str, str], file: Path, run: RunFolder, checkpoint: Path
) -> Predict:
    """Writes an ONNX graph with a dynamic batch size, read back by ONNX Runtime."""
    import onnxruntime  # type: ignore[import-untyped]  # an optional package

    example = torch.zeros(_TRACED_BATCH, *data.image_shape, dtype=torch.uint8)
    program = torch.onnx.export(
        as_module(model, data),
        (example,),
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props.update(metadata)
    program.save(file, external_data=False)
    session = onnxruntime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


def write_torchscript(
    model: Any, data: Any, metadata: dict[str, str], file: Path, run: RunFolder, checkpoint: Path
) -> Predict:
    """Writes a TorchScript graph, traced at a batch of 2."""
    # Lightning's method hides its properties from torch, which would read each and fail without a trainer.
    example = torch.zeros(_TRACED_BATCH, *data.image_shape, dtype=torch.uint8)
    traced = as_module(model, data).to_torchscript(method="trace", example_inputs=example, check_trace=False)
    buffer = BytesIO()  # torch's own writer aborts the process on a full disk
    torch.jit.save(traced, buffer, _extra_files={"metadata.json": json.dumps(metadata)})
    file.write_bytes(buffer.getbuffer())
    return torch.jit.load(file, map_location="cpu")


def _with_sorted_header(content: bytes) -> bytes:
    """Returns a safetensors file with the entries of its header in alphabetical order.

    safetensors 0.8 writes the metadata in random order, so that two exports of a checkpoint would differ. The file
    begins with the length of the header in 8 bytes and the header in JSON.

    Source: https://github.com/huggingface/safetensors#format
    """
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:start]), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    encoded = header.encode()
    encoded += b" " * (-len(encoded) % 8)  # tensors begin at a multiple of 8
    return len(encoded).to_bytes(8, "little") + encoded + content[start:]


def write_safetensors(
    model: Any, data: Any, metadata: dict[str, str], file: Path, run: RunFolder, checkpoint: Path
) -> Predict:
    """Writes the state_dict and the fitted preprocessing as tensors."""
    from safetensors.torch import load_file, save

    fitted = {f"preprocessing.{name}": tensor for name, tensor in data.preprocessing.fitted.items()}
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in (model.state_dict() | fitted).items()}
    # save_file would make it unreadable for other users
    file.write_bytes(_with_sorted_header(save(tensors, metadata)))
    stored = load_file(file)
    loaded, loaded_data = untrained(run, checkpoint)
    preprocessing = {name: stored.pop(name) for name in fitted}
    loaded.load_state_dict(stored)
    loaded_data.preprocessing.fitted = {name.partition(".")[2]: tensor for name, tensor in preprocessing.items()}
    return lambda images: logits(loaded, loaded_data, images)

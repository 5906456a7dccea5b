"""The files that `pipelines.export` writes, a function a format; it reads its file back and returns how it predicts.

Shapes: B images in a batch, C channels, H×W pixels, K classes.
"""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torchmetrics import Metric

from common.errors import UserError
from datamodules import ImageDataModule
from modules import Classifier
from pipelines.run import restore as trained
from pipelines.run.run_folder import RunFolder

Predict = Callable[[Tensor], Tensor]  # uint8 (B, C, H, W) to logits (B, K)

_TRACED_BATCH = 2  # 1 would be taken for a constant


def untrained(run: RunFolder) -> tuple[Any, Any]:
    model, data = trained.untrained(run)
    if not isinstance(model, Classifier) or not isinstance(data, ImageDataModule):
        raise UserError(
            f"{type(model).__name__} on {type(data).__name__} can't be exported; give a run that classifies images."
        )
    return model.eval(), data


def logits(model: Any, data: Any, images: Tensor) -> Tensor:
    """What a run makes of images, uint8 (B, C, H, W): logits (B, K)."""
    found: Tensor = model.test_logits(data.on_after_batch_transfer((images, None), 0)[0])
    return found.float()


def as_module(model: Any, data: Any) -> LightningModule:
    """Preprocessing and model as one module, images uint8 (B, C, H, W) to logits (B, K)."""

    class Placed:
        """A buffer that is where its module is: a traced `.to(device)` would bind the graph to this machine's CPU."""

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
                    delattr(self.model, name)  # counts of an evaluation, no part of what is exported
            for name, tensor in data.preprocessing.fitted.items():
                self.register_buffer(name, tensor.clone())

        def forward(self, images: Tensor) -> Tensor:
            mine = copy.copy(data)
            mine.preprocessing = copy.copy(data.preprocessing)
            mine.preprocessing.fitted = {name: Placed(buffer) for name, buffer in self.named_buffers(recurse=False)}
            return logits(self.model, mine, images)

    return Deployed().eval()


def write_onnx(model: Any, data: Any, metadata: dict[str, str], file: Path, run: RunFolder) -> Predict:
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


def write_torchscript(model: Any, data: Any, metadata: dict[str, str], file: Path, run: RunFolder) -> Predict:
    # Lightning's method hides its own properties from torch, which reads each of them and finds no trainer.
    example = torch.zeros(_TRACED_BATCH, *data.image_shape, dtype=torch.uint8)
    traced = as_module(model, data).to_torchscript(method="trace", example_inputs=example, check_trace=False)
    torch.jit.save(traced, file, _extra_files={"metadata.json": json.dumps(metadata)})
    return torch.jit.load(file, map_location="cpu")


def write_safetensors(model: Any, data: Any, metadata: dict[str, str], file: Path, run: RunFolder) -> Predict:
    from safetensors.torch import load_file, save

    fitted = {f"preprocessing.{name}": tensor for name, tensor in data.preprocessing.fitted.items()}
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in (model.state_dict() | fitted).items()}
    file.write_bytes(save(tensors, metadata))  # its own save_file hides the file from other users
    stored = load_file(file)
    again, its_data = untrained(run)
    preprocessing = {name: stored.pop(name) for name in fitted}
    again.load_state_dict(stored)
    its_data.preprocessing.fitted = {name.partition(".")[2]: tensor for name, tensor in preprocessing.items()}
    return lambda images: logits(again, its_data, images)

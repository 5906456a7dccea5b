"""Every topic's steps on a GPU that is not there: no tensor stays on the CPU, and the CPU does not wait for the device.

FakeTensorMode computes the shapes, dtypes and devices of all results, but no values, so that "cuda" tensors need no
GPU. An operation on tensors of two devices raises, and so does one that makes the CPU wait: reading a value, a result
whose shape depends on values, and a blocking copy from or to the device. `MEANT` lists the waits that are intended.

The backward pass needs a driver, so optimizer steps are left out. Metrics of torchmetrics are replaced, because their
updates wait.
"""

import re
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch
from lightning import LightningModule
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorDeviceMismatchError,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torchmetrics import Metric

import modules
from modules import (
    GAN,
    CaptionLSTM,
    CaptionRNN,
    CaptionTransformer,
    ConvNet,
    FastConvNet,
    FullyConnectedNet,
    KNearestNeighbors,
    LinearProbe,
    LinearSVM,
    SimCLR,
    SoftmaxRegression,
    TimmClassifier,
    TwoLayerNet,
)
from modules.captioning.caption_scores import CaptionScores
from modules.captioning.captioner import Captioner
from modules.gan.gan_losses import LossName

DEVICE = torch.device("cuda", 0)
SHAPE, CLASSES = (3, 16, 16), 10
WORDS = ["<pad>", "<start>", "<end>", "<unk>", "a", "red", "disc"]
TINY: dict[str, Any] = {"backbone": "test_resnet", "options": {"channels": [8, 8, 16, 16]}}

# Functions that may wait: the cases in which they do (a regular expression), the value that they read, and the reason.
MEANT = {
    "_generate": (
        "caption.* (validation|test|predict)|beam.* validation",
        False,
        "greedy decoding ends when all captions have ended, usually long before max_length",
    ),
    "beam_search": ("beam.* (test|predict)", False, "beam search ends when no hypothesis can lead to a better caption"),
    "Captioner._generate": ("(caption|beam).* (validation|test|predict)", 0, "captions become strings, once a batch"),
    "NearestNeighbors._vectors": (
        "(knn cosine|simclr) (validation|test|predict)",
        True,
        "an image of zeros has no direction to compare by cosine; the message names its index",
    ),
    "stable_topk": (
        "(knn.*|simclr) (validation|test|predict)",
        0,
        "only rows with equal distances at position k are searched again",
    ),
    "NearestNeighbors._recompute_cancelled": (
        "(knn cosine|knn floats|simclr) (validation|test|predict)",
        0,
        "only distances that cancellation made inaccurate are computed again",
    ),
    "SimCLR._memorize": ("simclr (validation|test|predict)", 0, "the memorized images are copied to the device once"),
    "GAN.latents": ("gan.* sample", 0, "random numbers of the CPU are the same with every device"),
}


class Wait(Exception):
    """The CPU waits for the device."""


class NoWaits(TorchDispatchMode):
    """Raises `Wait` where the CPU would wait for the device, unless a function of `allowed` makes it wait.

    Args:
        allowed: The value that each of these functions reads, by name; a search by condition finds all
            elements.
    """

    def __init__(self, allowed: Mapping[str, float]) -> None:
        super().__init__()
        self.allowed, self.observed = allowed, set[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        aten, kwargs = torch.ops.aten, kwargs or {}
        if func is aten._to_copy.default and not kwargs.get("non_blocking"):
            self._copy(args[0], torch.device(kwargs.get("device") or args[0].device))
        if func is aten.copy_.default and not (args[2] if len(args) > 2 else kwargs.get("non_blocking")):
            self._copy(args[1], args[0].device)
        try:
            return func(*args, **kwargs)
        except (DataDependentOutputException, DynamicOutputShapeException):
            value = self._wait(str(func))
        if func is aten._local_scalar_dense.default:
            return value
        if func is aten.nonzero.default:
            return args[0].new_zeros(args[0].numel(), args[0].ndim, dtype=torch.int64)
        assert func is aten.index.Tensor  # with a mask
        indices: list[Tensor | None] = []
        for index in args[1]:
            is_mask = index is not None and index.dtype == torch.bool
            indices += index.new_zeros(index.ndim, index.numel(), dtype=torch.int64).unbind() if is_mask else [index]
        return func(args[0], indices)

    def _copy(self, source: Tensor, target: torch.device) -> None:
        if source.device.type != target.type:
            self._wait(f"a blocking copy from {source.device} to {target}")

    def _wait(self, reason: str) -> float:
        """Returns the value that the function of the project reads which makes the CPU wait."""
        folder, frame = Path(modules.__file__).parent, sys._getframe()
        while not Path(frame.f_code.co_filename).is_relative_to(folder):
            if frame.f_back is None:
                raise Wait(reason)
            frame = frame.f_back
        name = frame.f_code.co_qualname
        if name not in self.allowed:
            raise Wait(f"{name} waits for {reason}")
        self.observed.add(name)
        return self.allowed[name]


def check_device(*values: Any) -> None:
    """Fails for a tensor on another device; also takes the place of metrics' `update`."""
    for value in values:
        assert not isinstance(value, Tensor) or value.device == DEVICE


def move(model: LightningModule) -> None:
    """Moves a model to the device as Lightning does: its parameters and buffers, and no other tensors."""
    for name, child in list(model.named_children()):
        if isinstance(child, (Metric, CaptionScores)):
            delattr(model, name)
            setattr(model, name, SimpleNamespace(update=check_device))
    model._apply(lambda tensor: torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device=DEVICE))
    model._device = DEVICE
    model._trainer = SimpleNamespace(  # type: ignore[assignment]
        world_size=1, global_rank=0, global_step=1, precision_plugin=SimpleNamespace(forward_context=nullcontext)
    )


def knn(metric: Any, dtype: torch.dtype = torch.uint8) -> KNearestNeighbors:
    model = KNearestNeighbors(SHAPE, CLASSES, metric=metric, k_max=7)
    model.memorize(torch.ones(60, *SHAPE, dtype=dtype), torch.zeros(60, dtype=torch.int64))
    return model


def gan(**settings: Any) -> GAN:
    return GAN((3, 8, 8), latent_size=4, generator_width=8, discriminator_width=8, **settings)


def captioner(kind: type[Captioner], **settings: Any) -> Captioner:
    return kind(SHAPE, WORDS, width=8, channels=(4, 8), dropout=0.1, max_length=5, **settings)


TOPICS: dict[str, Callable[[], LightningModule]] = {
    "svm": lambda: LinearSVM(SHAPE, CLASSES),
    "softmax": lambda: SoftmaxRegression(SHAPE, CLASSES),
    "two_layer": lambda: TwoLayerNet(SHAPE, CLASSES, 8),
    "fc_net batch": lambda: FullyConnectedNet(SHAPE, CLASSES, (8, 8), "batch", dropout=0.5, reg=0.1),
    "fc_net layer": lambda: FullyConnectedNet(SHAPE, CLASSES, (8, 8), "layer"),
    "convnet batch": lambda: ConvNet(SHAPE, CLASSES, (8, 16), dropout=0.5),
    "convnet group": lambda: ConvNet(SHAPE, CLASSES, (8, 16), normalization="group", groups=4, pooling="avg"),
    "timm": lambda: TimmClassifier(SHAPE, CLASSES, image_size=24, **TINY),
    "timm mixup": lambda: TimmClassifier(SHAPE, CLASSES, mixup=0.2, **TINY),
    "timm cutmix": lambda: TimmClassifier(SHAPE, CLASSES, cutmix=1.0, **TINY),
    "timm frozen": lambda: TimmClassifier(SHAPE, CLASSES, freeze_backbone=True, **TINY),
    "fast_convnet": lambda: FastConvNet(SHAPE, CLASSES, (8, 16)),
    "fast_convnet sgd": lambda: FastConvNet(SHAPE, CLASSES, (8, 16), optimizer="sgd", whitening=False, residual=True),
    "knn l1": lambda: knn("l1"),
    "knn l2": lambda: knn("l2"),
    "knn cosine": lambda: knn("cosine"),
    "knn floats": lambda: knn("l2", torch.float32),
    "caption_rnn": lambda: captioner(CaptionRNN),
    "caption_lstm": lambda: captioner(CaptionLSTM),
    "caption_lstm without attention": lambda: captioner(CaptionLSTM, attention=False, label_smoothing=0.1),
    "beam caption_lstm": lambda: captioner(CaptionLSTM, beam_size=2, length_penalty=0.5),
    "caption_transformer": lambda: captioner(CaptionTransformer, num_heads=2, encoder_layers=1),
    "beam caption_transformer": lambda: captioner(CaptionTransformer, num_heads=2, norm="post", beam_size=2),
    "gan bce": lambda: gan(loss="bce", discriminator_norm="batch"),
    "gan least_squares": lambda: gan(loss="least_squares", generator="fully_connected", ema_decay=0.0),
    "gan hinge": lambda: gan(loss="hinge", discriminator="fully_connected", discriminator_steps=2, generator_steps=2),
    "gan wasserstein": lambda: gan(loss="wasserstein", gradient_penalty=10.0),
    "simclr": lambda: SimCLR(SHAPE, CLASSES, hidden=8, projection=4, knn=7, **TINY),
    "linear_probe": lambda: LinearProbe(SHAPE, CLASSES, **TINY),
    "finetune": lambda: LinearProbe(SHAPE, CLASSES, freeze_backbone=False, **TINY),
}
STEPS = ["training", "validation", "test", "predict"]
CASES = [
    f"{topic} {step}"
    for topic in TOPICS
    for step in (["training", "validation", "test", "sample"] if topic.startswith("gan ") else STEPS)
]


def batch_of(model: LightningModule, step: str) -> tuple[Any, ...]:
    """Returns a batch on the device."""
    shape = (3, 8, 8) if isinstance(model, GAN) else SHAPE
    images = torch.randn(4, *((2,) if isinstance(model, SimCLR) and step == "training" else ()), *shape, device=DEVICE)
    if isinstance(model, KNearestNeighbors):
        images = images.to(model.images.dtype)
    if isinstance(model, Captioner) and step != "predict":
        words = torch.ones(4, 6, dtype=torch.int64, device=DEVICE)
        return (images, words) if step == "training" else (images, words, [["a red disc"]] * 4)
    return images, torch.zeros(4, dtype=torch.int64, device=DEVICE)


def leave_out_backward(model: LightningModule, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces what needs a driver in the `training_step` of topics that call their optimizers themselves."""
    optimizer = SimpleNamespace(step=lambda: None)
    monkeypatch.setattr(model, "optimizers", lambda: (optimizer, optimizer) if isinstance(model, GAN) else optimizer)
    monkeypatch.setattr(model, "manual_backward", lambda loss: None)
    monkeypatch.setattr(model, "take_step", lambda *_, **__: None, raising=False)
    monkeypatch.setattr("torch.autograd.grad", lambda outputs, inputs, **_: (torch.zeros_like(inputs),))


def evaluate(model: LightningModule, step: str, batch: tuple[Any, ...]) -> Any:
    """Returns the output of a step other than training, after the hook that memorizes images, if a topic has one."""
    if isinstance(model, SimCLR):
        model.images, model.labels = torch.randn(60, *SHAPE), torch.zeros(60, dtype=torch.int64)  # on the CPU
        model.on_test_epoch_start()
    if isinstance(model, KNearestNeighbors):
        model.on_test_start()
    if isinstance(model, GAN) and step == "sample":
        return model.sample(4)
    return getattr(model, f"{step}_step")(batch, 0)


@pytest.fixture(autouse=True, scope="module")
def autograd_threads() -> None:
    """Starts the threads of autograd, one for each GPU, before FakeTensorMode pretends for good that there are GPUs.

    With such threads, processes forked by later tests could not compute gradients.
    """
    torch.ones((), requires_grad=True).backward()


@pytest.mark.parametrize("case", CASES)
def test_a_step_stays_on_the_device(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    topic, step = case.rsplit(" ", 1)
    torch.manual_seed(0)
    model = TOPICS[topic]().train(step == "training")
    monkeypatch.setattr("modules.neighbors.nearest_neighbors.int8_product_pays", lambda device: True)  # asks the GPU
    expected = {name: value for name, (cases, value, _) in MEANT.items() if re.fullmatch(cases, case)}
    # cuDNN's recurrent kernels need a driver, torch's own do not.
    with torch.backends.cudnn.flags(enabled=False), FakeTensorMode(), NoWaits(expected) as mode:
        move(model)
        batch = batch_of(model, step)
        if step == "training":
            leave_out_backward(model, monkeypatch)
            check_device(model.training_step(batch, 0))
        else:
            with torch.no_grad():
                check_device(evaluate(model, step, batch))
    assert mode.observed == set(expected)


def test_every_loss_of_the_gan_is_tested() -> None:
    assert {f"gan {name}" for name in get_args(LossName)} == {topic for topic in TOPICS if topic.startswith("gan ")}


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        (lambda x: x.sum().item(), Wait),
        (lambda x: bool((x > 0).any()), Wait),
        (lambda x: x.tolist(), Wait),
        (lambda x: x[x > 0], Wait),
        (lambda x: x.nonzero(), Wait),
        (lambda x: x.cpu(), Wait),
        (lambda x: torch.tensor([1.0], device=x.device), Wait),
        (lambda x: x.copy_(torch.ones(3)), Wait),
        (lambda x: x + torch.ones(3), FakeTensorDeviceMismatchError),
    ],
)
def test_a_wait_or_a_tensor_on_the_cpu_raises(operation: Callable[[Tensor], Any], error: type[Exception]) -> None:
    with FakeTensorMode(), NoWaits({}):
        tensor = torch.ones(3, device=DEVICE)
        with pytest.raises(error):
            operation(tensor)

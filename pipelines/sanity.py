"""What the course teaches to look at before a classifier is trained, each as one check with its figures.

    initial loss   what `expected_initial_loss` predicts for logits near 0: ln K for softmax, (K − 1) Δ for the hinge
    gradients      backpropagation against central differences (L(w + h) − L(w − h)) / 2h in float64
    parameters     each of them is reached by a finite gradient that is not all zero
    overfitting    a few training images can be learned by heart
    splits         validation and test images are not training images too

Sources: https://cs231n.github.io/neural-networks-3/#gradcheck and https://cs231n.github.io/neural-networks-3/#sanitycheck

Shapes: N images of a split, B of a batch, K classes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from hashlib import blake2b
from math import isfinite
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

Split = tuple[Tensor, Tensor]  # images (N, ...), labels (N,) int64
Report = Callable[[str], None]  # told how far a long check is

_LOSS_TOLERANCE = 0.05  # share by which the initial loss may be off
_GRADIENT_TOLERANCE = 1e-4  # relative error; the course calls 1e-2 wrong, and 1e-4 fine for losses with kinks
_STEP = 1e-5  # h of the central differences
_SMALL_GRADIENT = 1e-5  # below this, times the loss, a difference of float64 losses over h is mostly rounding
_ALL_COORDINATES = 200  # shared among the parameters, so that a deep network takes no longer than a shallow one
_NOISE = 1e-2  # standard deviation of what moves the parameters off the zeros that they start from
_GRADIENT_STEPS = 3  # a layer behind a scale that starts at 0 is reached only after the scale has moved
_OVERFIT_ACCURACY = 0.98
_OVERFIT_STEPS = 300  # for each of these learning rates
_OVERFIT_RATES = (1e-3, 1e-2, 1e-4)
_OVERLAP_TOLERANCE = 0.01  # share of a split; published data sets hold a few duplicates


@runtime_checkable
class Checkable(Protocol):
    """What the checks ask of a model; `modules.Classifier` has all of it."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Logits (B, K) and labels (B,) to a scalar."""

    def expected_initial_loss(self) -> float | None:
        """What `loss` should be before training, without regularisation; None if nothing is known."""

    def training_step(self, batch: Split, batch_idx: int) -> Any:
        """The loss that training minimises, or a mapping with it as `loss`."""

    def __call__(self, images: Tensor) -> Tensor:
        """Images (B, ...) to logits (B, K)."""

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...

    def modules(self) -> Iterator[nn.Module]: ...

    def double(self) -> Self: ...

    def train(self, mode: bool = True) -> Self: ...


@dataclass(frozen=True)
class Result:
    """What one check found.

    Attributes:
        name: of the check.
        passed: None if there was nothing to check.
        figures: the numbers behind it, in words.
    """

    name: str
    passed: bool | None
    figures: str


def check_initial_loss(model: Checkable, images: Tensor, labels: Tensor) -> Result:
    """Compares the data loss of an untrained model with the one it expects: images (B, ...), labels (B,)."""
    expected = model.expected_initial_loss()
    model = without_regularisation(model)
    with torch.no_grad():
        loss = float(model.loss(model(images), labels))
    if expected is None:
        return Result("initial loss", None if isfinite(loss) else False, f"{loss:.4f}; the model expects none")
    off = abs(loss - expected) / abs(expected) if expected else abs(loss)
    figures = f"{loss:.4f}, expected {expected:.4f}: {off:.1%} off (limit {_LOSS_TOLERANCE:.0%})"
    return Result("initial loss", off <= _LOSS_TOLERANCE, figures)


def check_gradients(model: Checkable, images: Tensor, labels: Tensor, report: Report = lambda _: None) -> Result:
    """Compares backpropagation with central differences at random coordinates of every parameter.

    It is done for the whole loss and for the loss without regularisation, since either may drown an error in the other.
    A model as built may sit on kinks: a residual block that starts with a scale of 0 hands exact zeros to its ReLU, and
    a hinge whose margins are all violated never shows its flat side. So it is done at a random point close by. Where
    that lies on a kink too there is no gradient, and another coordinate is drawn.

    Args:
        model: as built; it is left as it is.
        images: (B, ...), a small batch, preprocessed.
        labels: (B,).
        report: told the parameter that is looked at.
    """
    worst, where, compared, kinks = 0.0, "", 0, 0
    for variant in [model, without_regularisation(model)][: 2 if getattr(model, "reg", 0) else 1]:
        loss_of = _Loss(deepcopy(variant).double().train(), (images.double(), labels))
        parameters = loss_of.trainable
        with torch.no_grad():
            for parameter in parameters.values():
                parameter.add_(torch.randn_like(parameter), alpha=_NOISE)
        if not parameters:
            return Result("gradients", None, "the model has no parameters to train")
        loss = loss_of.backward()
        if loss.dtype != torch.float64:
            precision = str(loss.dtype).removeprefix("torch.")
            return Result("gradients", False, f"the loss of a float64 model is {precision}: a cast hides the digits")
        wanted = max(2, min(10, _ALL_COORDINATES // len(parameters)))
        for name, parameter in parameters.items():
            report(name)
            found = 0
            for i in torch.randperm(parameter.numel())[: 5 * wanted].tolist():
                error = _relative_error(loss_of, parameter, i, float(loss.detach()))
                if error is None:
                    kinks += 1
                    continue
                found += 1
                if error > worst or not isfinite(error):
                    worst, where = error, f" in {name}"
                if found == wanted or not isfinite(worst):
                    break
            if not found:
                return Result("gradients", False, f"every coordinate of {name} sits on a kink: nothing was compared")
            compared += found
    figures = f"relative error {worst:.1e}{where}, worst of {compared} coordinates, {kinks} on kinks"
    # Few kinks are met by chance; where most coordinates look like one, the loss itself jumps.
    passed = worst <= _GRADIENT_TOLERANCE and kinks <= compared
    return Result("gradients", passed, f"{figures} (limit {_GRADIENT_TOLERANCE:.0e})")


class _Loss:
    """The training loss of one batch as a function of the parameters; random layers draw the same each time."""

    def __init__(self, model: Checkable, batch: Split) -> None:
        self.model, self.batch = model, batch
        self.trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}

    def __call__(self) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return training_loss(self.model, self.batch)

    def backward(self) -> Tensor:
        """The loss, after its gradients were put into the parameters."""
        loss = self()
        if loss.requires_grad:  # a model that is cut off from its parameters fails by its figures, not by a traceback
            loss.backward()
        return loss


@torch.no_grad()
def _relative_error(loss_of: _Loss, parameter: nn.Parameter, i: int, here: float) -> float | None:
    """|analytic − numeric| / larger of the two at coordinate `i` of a parameter; None on a kink."""
    gradient = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
    values, analytic = parameter.clone(), float(gradient.flatten()[i])
    losses = []
    for step in (_STEP, -_STEP):
        moved = values.flatten().index_add(0, torch.tensor([i]), values.new_tensor([step]))
        parameter.copy_(moved.view_as(values))
        losses.append(float(loss_of()))
    parameter.copy_(values)
    numeric = (losses[0] - losses[1]) / (2 * _STEP)
    difference = abs(analytic - numeric)
    typical = float(gradient.square().mean().sqrt())
    error = difference / max(abs(analytic), abs(numeric), 1e-3 * typical, _SMALL_GRADIENT * max(1.0, abs(here)))
    right, left = (losses[0] - here) / _STEP, (here - losses[1]) / _STEP
    # On a kink backpropagation gives a slope between those on its two sides; a wrong gradient lies outside of them.
    if error > _GRADIENT_TOLERANCE and difference <= abs(right - left):
        return None
    return error


def check_parameters(model: Checkable, images: Tensor, labels: Tensor) -> Result:
    """Looks whether every parameter gets a finite gradient that is not all zero: images (B, ...), labels (B,)."""
    loss_of = _Loss(deepcopy(model).train(), (images, labels))
    if not loss_of.trainable:
        return Result("parameters", None, "the model has none to train")
    norms = dict.fromkeys(loss_of.trainable, 0.0)  # the largest of the steps
    optimizer = torch.optim.Adam(loss_of.trainable.values(), lr=1e-3)
    for _ in range(_GRADIENT_STEPS):
        optimizer.zero_grad()
        loss_of.backward()
        for name, parameter in loss_of.trainable.items():
            norm = 0.0 if parameter.grad is None else float(parameter.grad.norm())
            if not isfinite(norm):
                return Result("parameters", False, f"the gradient of {name} is not finite")
            norms[name] = max(norms[name], norm)
        if all(norms.values()):
            break
        optimizer.step()
    unreached = [name for name, norm in norms.items() if not norm]
    if unreached:
        names = ", ".join(unreached[:3]) + (", …" if len(unreached) > 3 else "")
        return Result("parameters", False, f"{len(unreached)} of {len(norms)} get no gradient: {names}")
    figures = f"all {len(norms)} get gradients, of norm {min(norms.values()):.1e} to {max(norms.values()):.1e}"
    return Result("parameters", True, figures)


def check_overfitting(model: Checkable, images: Tensor, labels: Tensor, report: Report = lambda _: None) -> Result:
    """Learns a few images by heart with Adam on all of them at once, without augmentation or regularisation.

    Args:
        model: as built; it is left as it is.
        images: (B, ...), preprocessed.
        labels: (B,).
        report: told the accuracy after each step.
    """
    plain = without_regularisation(model)
    if not any(p.requires_grad for p in plain.parameters()):
        return Result("overfitting", None, "the model has no parameters to train")
    best, best_step, best_rate = 0, 0, 0.0
    for rate in _OVERFIT_RATES:
        learner = deepcopy(plain)
        optimizer = torch.optim.Adam([p for p in learner.parameters() if p.requires_grad], lr=rate)
        for step in range(_OVERFIT_STEPS + 1):
            with torch.no_grad():
                correct = int((learner(images).argmax(1) == labels).sum())
            if correct > best:
                best, best_step, best_rate = correct, step, rate
            report(f"{correct} of {len(labels)} images after {step} steps at learning rate {rate:g}")
            loss = training_loss(learner, (images, labels))
            if best == len(labels) or not loss.requires_grad or not bool(loss.isfinite()):
                break
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if best >= _OVERFIT_ACCURACY * len(labels):
            break
    passed = best >= _OVERFIT_ACCURACY * len(labels)
    how = f"in {best_step} steps of Adam, learning rate {best_rate:g}" if passed else f"(limit {_OVERFIT_ACCURACY:.0%})"
    figures = f"{best} of {len(labels)} training images learned by heart {how}"
    return Result("overfitting", passed, figures)


def check_splits(splits: Mapping[str, Split]) -> Result:
    """Counts images that are in two splits, by their contents: `train`, `val` and `test`, images (N, ...)."""
    digests = {name: [_digest(image) for image in images] for name, (images, _) in splits.items()}
    passed, counts = True, []
    for name, within in (("val", "train"), ("test", "train"), ("test", "val")):
        if not digests.get(name) or not digests.get(within):
            continue
        known = set(digests[within])
        shared = sum(digest in known for digest in digests[name])
        passed &= shared <= _OVERLAP_TOLERANCE * len(digests[name])
        counts.append(f"{shared:,} of {len(digests[name]):,} {name} in {within}")
    if not counts:
        return Result("splits", None, "there is one split alone")
    return Result("splits", passed, f"{', '.join(counts)} (limit {_OVERLAP_TOLERANCE:.0%})")


def _digest(image: Tensor) -> bytes:
    return blake2b(image.contiguous().numpy().data, digest_size=16).digest()


def without_regularisation(model: Checkable) -> Checkable:
    """A copy of a model in training mode that neither penalises its weights (`reg`) nor drops anything out."""
    copy = deepcopy(model).train()
    if hasattr(copy, "reg"):
        copy.reg = 0.0
    for layer in copy.modules():
        # `p` in torch's dropout layers, `dropout` in its LSTM and attention, `drop_prob` in timm's DropPath.
        for name in ("p",) if isinstance(layer, nn.modules.dropout._DropoutNd) else ("dropout", "drop_prob"):
            if isinstance(getattr(layer, name, None), float):
                setattr(layer, name, 0.0)
    return copy


def training_loss(model: Checkable, batch: Split) -> Tensor:
    """What `training_step` returns, as the scalar that training minimises."""
    output = model.training_step(batch, 0)
    loss: Tensor = output["loss"] if isinstance(output, Mapping) else output
    return loss


def read_splits(data: Any) -> dict[str, Split]:
    """All splits of a datamodule, in memory, unaugmented and before its preprocessing: `train`, `val`, `test`.

    Raises:
        ValueError: the datamodule keeps no splits in memory.
    """
    data.prepare_data()
    for stage in ("fit", "test"):
        data.setup(stage)
    splits = getattr(data, "splits", None)
    if not isinstance(splits, dict) or "train" not in splits:
        raise ValueError(
            f"{type(data).__name__} keeps no images in `splits`, so they can't be compared; give data that does, such "
            "as CIFAR10, MNIST, Digits or Shapes."
        )
    return splits


def run_checks(
    model: Checkable,
    splits: Mapping[str, Split],
    preprocess: Callable[[Split], Split],
    report: Report = lambda _: None,
) -> Iterable[Result]:
    """All checks, one after the other, each result as soon as it is known. They run on the CPU, so all see one result.

    Args:
        model: untrained; it is left as it is.
        splits: `train`, and `val` and `test` if there are any: images (N, ...), labels (N,) int64.
        preprocess: what turns images of a split into the model's.
        report: told which check is under way and how far it is.
    """
    images, labels = splits["train"]
    drawn = torch.randperm(len(labels), generator=torch.Generator().manual_seed(torch.initial_seed()))
    several, few, tiny = (preprocess((images[drawn[:n]], labels[drawn[:n]])) for n in (500, 50, 10))
    report("initial loss")
    yield check_initial_loss(model, *several)
    yield check_gradients(model, *tiny, lambda text: report(f"gradients: {text}"))
    report("parameters")
    yield check_parameters(model, *few)
    yield check_overfitting(model, *few, lambda text: report(f"overfitting: {text}"))
    report("splits")
    yield check_splits(splits)

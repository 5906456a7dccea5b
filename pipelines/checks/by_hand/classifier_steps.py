"""Backpropagation through the linear classifiers, the fully connected networks and ConvNet by hand.

Forward to the logits, the gradient of the loss with respect to them (`modules/linear/loss_gradients.py`), and back
through the layers (`layer_steps.py`). The penalty ½ λ ‖W‖² adds λ W to the gradient of each weight matrix.

Shapes: B images in a batch, D values in an image, C channels, H×W positions, K classes.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

from torch import Tensor, nn

from modules import ConvNet, FullyConnectedNet, LinearSVM
from modules.linear.linear_classifier import LinearClassifier
from modules.linear.loss_gradients import cross_entropy, cross_entropy_backward, hinge_loss, hinge_loss_backward
from pipelines.checks.by_hand.layer_steps import Backward, Gradients, step, steps


def classifier_by_hand(model: Any, batch: tuple[Tensor, Tensor], gradients: Gradients) -> Tensor:
    """Adds the gradients of the training loss by hand and returns the loss.

    Args:
        model: Classifier in training mode.
        batch: Images (B, ...) and labels (B,).
        gradients: Gradients of the model's parameters are added to it.
    """
    images, labels = batch
    if isinstance(model, ConvNet):
        logits, backward = _conv_net(model, images, gradients)
        regularized: Sequence[nn.Linear] = []
    else:
        layers, regularized = _layers(model)
        logits, backward = steps(layers, images.flatten(1), gradients)
    if isinstance(model, LinearSVM):
        loss, dlogits = hinge_loss(logits, labels, model.margin), hinge_loss_backward(logits, labels, model.margin)
    else:
        loss, dlogits = cross_entropy(logits, labels), cross_entropy_backward(logits, labels)
    backward(dlogits)
    reg = getattr(model, "reg", 0.0)
    if reg:
        for layer in regularized:
            loss = loss + 0.5 * reg * layer.weight.square().sum()
            gradients.add(layer.weight, reg * layer.weight, "λ W")
    return loss


def _layers(model: Any) -> tuple[list[nn.Module], list[nn.Linear]]:
    """Returns the layers of a network of vectors, first to last, and those whose weights are regularized."""
    if isinstance(model, LinearClassifier):
        return [model.linear], [model.linear]
    if isinstance(model, FullyConnectedNet):
        return list(model.layers), model.affine
    return [model.hidden, nn.ReLU(), model.output], [model.hidden, model.output]  # TwoLayerNet


def _conv_net(model: ConvNet, images: Tensor, gradients: Gradients) -> tuple[Tensor, Backward]:
    maps, stages_backward = steps(chain.from_iterable(model.stages), images, gradients)  # type: ignore[arg-type]
    dropped, dropout_backward = step(model.dropout, maps.mean((2, 3)), gradients)
    logits, output_backward = step(model.output, dropped, gradients)

    def backward(dlogits: Tensor) -> Tensor:
        dmeans = dropout_backward(output_backward(dlogits))  # (B, C)
        positions = maps.shape[2] * maps.shape[3]
        return stages_backward(dmeans[:, :, None, None].expand_as(maps) / positions)  # each position has the same part

    return logits, backward

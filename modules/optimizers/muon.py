"""Muon: momentum whose step is orthogonalized, for weight matrices; AdamW for biases, norms and other small tensors.

For a matrix W (rows M, columns N) with gradient G, momentum μ, learning rate η and weight decay λ:

    V ← μ V + (1 − μ) G
    W ← (1 − η λ) W − η s orthogonalize(V)              or of μ V + (1 − μ) G, one step ahead (Nesterov)

orthogonalize(X) = U Vᵀ for the singular value decomposition X = U Σ Vᵀ: all singular values become about 1, so the step
is as long in every direction. Newton–Schulz iterations approximate it with matrix products alone. The factor s is
√max(1, M/N) ("original"), or 0.2 √max(M, N), with which steps are as long as AdamW's ("match_rms_adamw"). A
convolution's filters (M, C, h, w) are the matrix (M, C h w).

The iterations run in bfloat16 where the device computes in it, else in float32: on a CPU core with AVX2 only, a step
for ResNet-18 takes 29 s in bfloat16 and 1 s in float32.

Sources: K. Jordan, "Muon: An optimizer for hidden layers in neural networks", 2024,
https://kellerjordan.github.io/posts/muon/; J. Liu et al., arXiv 2502.16982 for the second factor; F. L. Cesista,
https://leloykun.github.io/ponder/muon-opt-coeffs/ for the coefficients "quintic"; I. Loshchilov, F. Hutter,
arXiv 1711.05101 for AdamW.
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from common.machine.dtype_support import has_bfloat16
from common.ranges import check_range

_COEFFICIENTS = {  # (a, b, c) of each iteration, the last ones for all further iterations
    "original": [(3.4445, -4.7750, 2.0315)],
    "quintic": [
        (4.0848, -6.8946, 2.9270),
        (3.9505, -6.3029, 2.6377),
        (3.7418, -5.5913, 2.3037),
        (2.8769, -3.1427, 1.2046),
        (2.8366, -3.0525, 1.2012),
    ],
}


class Muon(Optimizer):
    """Optimizes weight matrices by Muon and all other parameters by AdamW, with one learning rate.

    Args:
        params: Parameters or parameter groups; a group's `use_muon` decides for all of its parameters, otherwise
            `is_matrix` does.
        lr: Learning rate η, > 0.
        momentum: Momentum μ, in [0, 1).
        nesterov: Step along μ V + (1 − μ) G instead of V, and likewise along AdamW's first moment one step ahead.
        weight_decay: Decoupled weight decay λ, ≥ 0.
        ns_steps: Number of Newton–Schulz iterations, in [1, 1000].
        ns_coefficients: Polynomial of the iterations: original (the same in each) or quintic (five different ones).
        adjust_lr_fn: Factor s of the learning rate: original or match_rms_adamw.
        betas: Decay rates of AdamW's moments, in [0, 1).
        eps: Added to AdamW's denominator, > 0.

    Raises:
        ValueError: If a value is out of its range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.02,
        momentum: float = 0.95,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        ns_steps: int = 5,
        ns_coefficients: Literal["original", "quintic"] = "quintic",
        adjust_lr_fn: Literal["original", "match_rms_adamw"] = "match_rms_adamw",
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-7,
    ) -> None:
        check_range("lr", lr, lr > 0, "> 0")
        check_range("momentum", momentum, 0 <= momentum < 1, "in [0, 1)")
        check_range("weight_decay", weight_decay, weight_decay >= 0, "≥ 0")
        check_range("ns_steps", ns_steps, 1 <= ns_steps <= 1000, "in [1, 1000]")
        for name, choice, accepted in (
            ("ns_coefficients", ns_coefficients, tuple(_COEFFICIENTS)),
            ("adjust_lr_fn", adjust_lr_fn, ("original", "match_rms_adamw")),
        ):
            check_range(name, repr(choice), choice in accepted, " or ".join(accepted))
        check_range("betas", betas, all(0 <= beta < 1 for beta in betas), "in [0, 1)")
        check_range("eps", eps, eps > 0, "> 0")
        settings: dict[str, Any] = {"lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}
        settings |= {"ns_steps": ns_steps, "ns_coefficients": ns_coefficients, "adjust_lr_fn": adjust_lr_fn}
        super().__init__(params, {**settings, "betas": betas, "eps": eps})

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:  # loaded ones may be of torch's Muon, with which version 0.1 trained filters
            if not isinstance(group["ns_coefficients"], str):
                group.update(use_muon=True, ns_coefficients="original")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Takes one step; `closure`, if given, computes the loss and the gradients first, and its loss is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weights in group["params"]:
                if weights.grad is None:
                    continue
                weights.mul_(1 - group["lr"] * group["weight_decay"])
                step = _muon_step if group.get("use_muon", is_matrix(weights)) else _adamw_step
                step(weights, weights.grad, self.state[weights], group)
        return loss


def _muon_step(weights: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    if "momentum_buffer" not in state:
        state["momentum_buffer"] = torch.zeros_like(weights)
    velocity = state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
    step = gradient.lerp(velocity, group["momentum"]) if group["nesterov"] else velocity
    direction = orthogonalize(step.flatten(1), group["ns_steps"], group["ns_coefficients"])  # (M, N)
    rows, columns = direction.shape
    original = group["adjust_lr_fn"] == "original"
    factor = max(1, rows / columns) ** 0.5 if original else 0.2 * max(rows, columns) ** 0.5
    weights.add_(direction.view_as(weights), alpha=-group["lr"] * factor)


def _adamw_step(weights: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    if "step" not in state:
        state.update(step=0, exp_avg=torch.zeros_like(weights), exp_avg_sq=torch.zeros_like(weights))
    state["step"] += 1
    (beta1, beta2), t = group["betas"], int(state["step"])
    mean = state["exp_avg"].lerp_(gradient, 1 - beta1)
    if group["nesterov"]:
        mean = mean.lerp(gradient, 1 - beta1)  # one step ahead, as for matrices
    square = state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    scale = (square.sqrt() / (1 - beta2**t) ** 0.5).add_(group["eps"])
    weights.addcdiv_(mean, scale, value=-group["lr"] / (1 - beta1**t))


def orthogonalize(matrix: Tensor, steps: int = 5, coefficients: str = "original") -> Tensor:
    """Approximates U Vᵀ of a matrix U Σ Vᵀ (M, N) by Newton–Schulz iterations x ← a x + b (x xᵀ) x + c (x xᵀ)² x.

    Buffers that the iterations share make a step for ResNet-18 a tenth faster on a CPU than new tensors in each.
    """
    polynomials = _COEFFICIENTS[coefficients]
    x = matrix.to(torch.bfloat16 if has_bfloat16(matrix.device) else torch.float32, copy=True)
    if matrix.shape[0] > matrix.shape[1]:
        x = x.mT  # the smaller of the two Gram matrices
    x = x.div_(x.norm().clamp(min=1e-7)).contiguous()  # the iteration converges for singular values up to 1
    gram, polynomial, result = x.new_empty(len(x), len(x)), x.new_empty(len(x), len(x)), torch.empty_like(x)
    for i in range(steps):
        a, b, c = polynomials[min(i, len(polynomials) - 1)]
        torch.mm(x, x.mT, out=gram)
        torch.addmm(gram, gram, gram, beta=b, alpha=c, out=polynomial)  # b (x xᵀ) + c (x xᵀ)²
        torch.addmm(x, polynomial, x, beta=a, out=result)
        x, result = result, x
    return x.mT if matrix.shape[0] > matrix.shape[1] else x


def is_matrix(parameter: Tensor) -> bool:
    """Returns whether Muon suits a parameter: a matrix of at least 4 rows and columns, with aspect ratio up to 128.

    Position embeddings (1, T, D) and depthwise filters (C, 1, h, w) do not count, since their first two dimensions
    hold no matrix.
    """
    if parameter.ndim < 2 or 1 in parameter.shape[:2]:
        return False
    sides = (parameter.shape[0], parameter[0].numel())
    return min(sides) >= 4 and max(sides) <= 128 * min(sides)

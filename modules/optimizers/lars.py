"""LARS: a step for each weight matrix in proportion to its size, so that large batches can take large learning rates.

    λ = κ ‖w‖ / (‖g‖ + β ‖w‖)              with gradient g, weight decay β, trust coefficient κ
    v ← m v + λ (g + β w)                   with momentum m
    w ← w − η v

Biases and the scales of normalization, vectors all of them, are neither adapted nor decayed: they take plain steps with
momentum. timm has the update; which parameters are adapted is said here.

Sources: Y. You et al., arXiv 1708.03888; T. Chen et al., arXiv 2002.05709, section 2.2 and appendix B.1.

    --optimizer modules.optimizers.lars.LARS --optimizer.lr 0.3 --optimizer.weight_decay 1e-6
"""

from collections.abc import Iterable

from timm.optim.lars import Lars
from torch import Tensor

from common.errors import UserError


class LARS(Lars):
    """LARS with vectors left out of adaptation and decay.

    Args:
        params: the model's parameters.
        lr: η, at least 0.
        momentum: m, at least 0.
        weight_decay: β, at least 0.
        trust_coeff: κ, above 0.

    Raises:
        ValueError: a value out of the range given above.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.3,
        momentum: float = 0.9,
        weight_decay: float = 1e-6,
        trust_coeff: float = 1e-3,
    ) -> None:
        if not trust_coeff > 0:
            raise UserError(f"trust_coeff is {trust_coeff}; give a number above 0, such as 1e-3.")
        params = list(params)
        groups = [
            {"params": [p for p in params if p.ndim > 1], "always_adapt": True},
            {"params": [p for p in params if p.ndim <= 1], "weight_decay": 0.0},
        ]
        super().__init__(
            [group for group in groups if group["params"]],
            lr=lr,
            momentum=momentum,
            weight_decay=weight_decay,
            trust_coeff=trust_coeff,
        )

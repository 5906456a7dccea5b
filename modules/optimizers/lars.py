"""LARS: learning rates scaled per layer by ‖w‖ / ‖g‖, so that large batches can use large learning rates.

    λ = κ ‖w‖ / (‖g‖ + β ‖w‖)              with gradient g, weight decay β, trust coefficient κ
    v ← m v + λ (g + β w)                   with momentum m
    w ← w − η v

The paper has the learning rate inside the velocity, v ← m v + η λ (g + β w), w ← w − v. Both forms take the same steps
as long as η is constant. When it changes, the form above, timm's, applies the current η to all past gradients.

Biases and normalization scales (all vectors) are neither adapted nor decayed: they take plain steps with momentum. The
update is timm's; this class selects the parameters to adapt.

Sources: Y. You et al., arXiv 1708.03888; T. Chen et al., arXiv 2002.05709, section 2.2 and appendix B.1.

    --optimizer modules.optimizers.lars.LARS --optimizer.lr 0.3 --optimizer.weight_decay 1e-6
"""

from collections.abc import Iterable

from timm.optim.lars import Lars
from torch import Tensor

from common.ranges import check_range


class LARS(Lars):
    """LARS that excludes vectors (biases, normalization) from adaptation and weight decay.

    Args:
        params: Parameters of the model.
        lr: Learning rate η, ≥ 0.
        momentum: Momentum m, ≥ 0.
        weight_decay: Weight decay β, ≥ 0.
        trust_coeff: Trust coefficient κ, > 0.

    Raises:
        ValueError: If a value is out of its range.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.3,
        momentum: float = 0.9,
        weight_decay: float = 1e-6,
        trust_coeff: float = 1e-3,
    ) -> None:
        check_range("trust_coeff", trust_coeff, trust_coeff > 0, "> 0, such as 1e-3")
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

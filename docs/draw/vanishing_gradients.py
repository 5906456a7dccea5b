"""Draws docs/pictures/vanishing_gradients.png: gradients of h_t over 50 steps back, for recurrent weights of any size.

    python docs/draw/vanishing_gradients.py

The gradients are those by hand, modules/captioning/recurrent_gradients.py, for random inputs and seed 0.
"""

import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from modules.captioning.recurrent_gradients import lstm_step, lstm_step_backward, rnn_step, rnn_step_backward

_STEPS, _WIDTH, _BATCH = 50, 128, 32
_OUT = Path(__file__).resolve().parents[1] / "pictures" / "vanishing_gradients.png"


def orthogonal(rows: int) -> Tensor:
    """Returns a random matrix (rows, D) of orthogonal blocks, so that each has one singular value: 1."""
    blocks = [nn.init.orthogonal_(torch.empty(_WIDTH, _WIDTH, dtype=torch.float64)) for _ in range(rows // _WIDTH)]
    return torch.cat(blocks)


def rnn_norms(scale: float, inputs: Tensor) -> list[float]:
    """Returns mean norms of a gradient at h_T, h_{T−1}, …, h_0, relative to that at h_T.

    Args:
        scale: Singular value of W_h, an orthogonal matrix times it.
        inputs: W_x x_t + b at each step, (T, B, D).
    """
    w_x, w_h, bias = torch.eye(_WIDTH).double(), scale * orthogonal(_WIDTH), torch.zeros(_WIDTH).double()
    states = [torch.zeros_like(inputs[0])]
    for x in inputs:
        states.append(rnn_step(x, states[-1], w_x, w_h, bias))
    gradient = torch.randn_like(states[-1])
    norms = [gradient.norm(dim=1)]
    for t in range(len(inputs), 0, -1):
        gradient = rnn_step_backward(gradient, states[t], inputs[t - 1], states[t - 1], w_x, w_h)[1]
        norms.append(gradient.norm(dim=1))
    return [float((norm / norms[0]).log().mean().exp()) for norm in norms]


def lstm_norms(forget_bias: float, inputs: Tensor) -> list[float]:
    """Returns mean norms of a gradient at the cells c_T … c_0, relative to that at c_T.

    Args:
        forget_bias: Bias b_f of the forget gates, σ(b_f) on average.
        inputs: x_t at each step, (T, B, D).
    """
    w_x, w_h, bias = 0.1 * orthogonal(4 * _WIDTH), 0.1 * orthogonal(4 * _WIDTH), torch.zeros(4 * _WIDTH).double()
    bias[_WIDTH : 2 * _WIDTH] = forget_bias
    states = [(torch.zeros_like(inputs[0]), torch.zeros_like(inputs[0]))]
    for x in inputs:
        states.append(lstm_step(x, *states[-1], w_x, w_h, bias))
    dh, dcells = torch.zeros_like(inputs[0]), torch.randn_like(inputs[0])
    norms = [dcells.norm(dim=1)]
    for t in range(len(inputs), 0, -1):
        _, dh, dcells, *_ = lstm_step_backward(dh, dcells, inputs[t - 1], *states[t - 1], w_x, w_h, bias)
        norms.append(dcells.norm(dim=1))
    return [float((norm / norms[0]).log().mean().exp()) for norm in norms]


def main() -> None:
    torch.manual_seed(0)
    inputs = 0.02 * torch.randn(_STEPS, _BATCH, _WIDTH, dtype=torch.float64)
    figure = Figure(figsize=(9.5, 3.8), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for scale in (1.3, 1.0, 0.9, 0.5):
        left.plot(rnn_norms(scale, inputs), label=f"{scale:g}")
    for bias in (5, 3, 1, 0):
        right.plot(lstm_norms(bias, inputs), label=f"{bias}: f ≈ {torch.tensor(float(bias)).sigmoid():.3f}")
    left.set_title("vanilla RNN: ∂L/∂h", fontsize=10)
    left.legend(fontsize=8, title="singular values of W_h", title_fontsize=8)
    right.set_title("LSTM: ∂L/∂c along the cells", fontsize=10)
    right.legend(fontsize=8, title="bias of the forget gate", title_fontsize=8)
    left.set_ylabel("norm relative to the last step's")
    for axes in (left, right):
        axes.set_yscale("log")
        axes.set_xlabel("steps back")
        axes.grid(alpha=0.3)
    figure.savefig(_OUT)
    for scale in (1.3, 1.0, 0.9, 0.5):
        print(f"RNN, W_h {scale:g}: {rnn_norms(scale, inputs)[-1]:.1e} after {_STEPS} steps")
    for bias in (5, 3, 1, 0):
        print(f"LSTM, b_f {bias}: {lstm_norms(bias, inputs)[-1]:.1e}")


if __name__ == "__main__":
    main()

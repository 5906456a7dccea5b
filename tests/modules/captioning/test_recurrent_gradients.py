"""Gradients of recurrent steps by hand."""

import torch
from torch import Tensor, nn

from modules.captioning.recurrent_gradients import (
    lstm_step,
    lstm_step_backward,
    rnn_step,
    rnn_step_backward,
)
from tests.modules.gradients import assert_gradients, tensors


def test_rnn_step() -> None:
    x, before, w_x, w_h, bias = tensors((5, 3), (5, 4), (4, 3), (4, 4), (4,))
    zero = torch.zeros_like(bias)
    h = rnn_step(x, before, w_x, w_h, bias)

    def reference(x: Tensor, before: Tensor, w_x: Tensor, w_h: Tensor, bias: Tensor) -> Tensor:
        return torch.rnn_tanh_cell(x, before, w_x, w_h, bias, zero)

    assert_gradients(
        rnn_step, reference, lambda dh: rnn_step_backward(dh, h, x, before, w_x, w_h), x, before, w_x, w_h, bias
    )


def test_lstm_step() -> None:
    inputs = tensors((5, 3), (5, 4), (5, 4), (16, 3), (16, 4), (16,))
    zero = torch.zeros(16, dtype=torch.float64)

    def forward(*inputs: Tensor) -> Tensor:
        return torch.cat(lstm_step(*inputs), 1)

    def reference(x: Tensor, before: Tensor, cells_before: Tensor, w_x: Tensor, w_h: Tensor, bias: Tensor) -> Tensor:
        return torch.cat(torch.lstm_cell(x, (before, cells_before), w_x, w_h, bias, zero), 1)

    assert_gradients(forward, reference, lambda dy: lstm_step_backward(*dy.chunk(2, 1), *inputs), *inputs)


def test_steps_in_a_row_give_backpropagation_through_time() -> None:
    """The state's gradient is that of its output plus that of the next step; weights sum over the steps."""
    x, w_x, w_h, bias, upstream = tensors((5, 6, 3), (4, 3), (4, 4), (4,), (5, 6, 4))
    states = [torch.zeros(5, 4, dtype=torch.float64)]
    for t in range(6):
        states.append(rnn_step(x[:, t], states[-1], w_x, w_h, bias))
    dw_x, dw_h, db, dh = torch.zeros_like(w_x), torch.zeros_like(w_h), torch.zeros_like(bias), torch.zeros(5, 4)
    for t in reversed(range(6)):
        step = rnn_step_backward(upstream[:, t] + dh, states[t + 1], x[:, t], states[t], w_x, w_h)
        dh, dw_x, dw_h, db = step[1], dw_x + step[2], dw_h + step[3], db + step[4]
    rnn = nn.RNN(3, 4, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        for parameter, value in zip(rnn.parameters(), (w_x, w_h, bias, torch.zeros_like(bias)), strict=True):
            parameter.copy_(value)
    (rnn(x)[0] * upstream).sum().backward()
    for found, parameter in zip((dw_x, dw_h, db), rnn.parameters(), strict=False):
        torch.testing.assert_close(found, parameter.grad, rtol=1e-10, atol=1e-10)

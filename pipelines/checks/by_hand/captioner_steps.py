"""Backpropagation through the recurrent captioners by hand: output layer, time, word vectors, and the image encoder.

    grid → initial state → a step for each word → logits → cross-entropy over the words, PAD left out

Backpropagation through time goes through the steps from the last to the first; the gradients of a step are in
`modules/captioning/recurrent_gradients.py`. A word vector is a row of the embedding, so its gradient is added to that
row; with tied embeddings the output layer adds its own to the same matrix.

Shapes: B captions in a batch, T words, V words in the vocabulary, L positions of the grid, D width.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from common.errors import UserError
from common.vocabulary import PAD
from modules import CaptionLSTM, CaptionRNN
from modules.captioning.attention_gradients import attention, attention_backward
from modules.captioning.captioner import Captioner
from modules.captioning.recurrent_gradients import lstm_step, lstm_step_backward, rnn_step, rnn_step_backward
from modules.linear.loss_gradients import cross_entropy, cross_entropy_backward
from pipelines.checks.by_hand.layer_steps import Backward, Gradients, step, steps

DecoderBackward = Callable[[Tensor], tuple[Tensor, Tensor]]  # dstates (B, T, D) to dvectors (B, T, D), dgrid (B, L, D)


def recurrent_captioner_by_hand(model: Any, batch: tuple[Tensor, Tensor], gradients: Gradients) -> Tensor:
    """Adds the gradients of the training loss by hand and returns the loss.

    Args:
        model: CaptionRNN or CaptionLSTM in training mode, without dropout and label smoothing.
        batch: Inputs (B, ...) and words (B, T + 1) from START to END and PAD.
        gradients: Gradients of the model's parameters are added to it.
    """
    inputs, words = batch
    grid, encoder_backward = encode(model, inputs, gradients)
    vectors, embedding_backward = embed(model, words[:, :-1], gradients)
    unroll: Any = _unroll_rnn if isinstance(model, CaptionRNN) else _unroll_lstm
    states, decoder_backward = unroll(model, vectors, grid, gradients)
    loss, dstates = word_loss(model, states, words[:, 1:], gradients)
    dvectors, dgrid = decoder_backward(dstates)
    embedding_backward(dvectors)
    encoder_backward(dgrid)
    return loss


def encode(model: Captioner, inputs: Tensor, gradients: Gradients) -> tuple[Tensor, Backward]:
    """Encodes inputs (B, ...) as the grid (B, L, D): LayerNorm(W f + b + p).

    Raises:
        ValueError: If a timm model encodes the images.
    """
    encoder = model.encoder
    shape: tuple[int, ...] = ()
    convolutions_backward: Backward = lambda dmaps: dmaps  # noqa: E731
    features = inputs if inputs.ndim == 3 else inputs[:, None]  # features, precomputed
    if encoder.network is not None:
        if not isinstance(encoder.network, nn.Sequential):
            raise UserError("There are no gradients by hand of timm's backbones; leave model.backbone out.")
        maps, convolutions_backward = steps(encoder.network, inputs, gradients)
        shape, features = maps.shape, maps.flatten(2).mT  # (B, L, C)
    projected, project_backward = step(encoder.project, features, gradients)
    grid, norm_backward = step(encoder.norm, projected + encoder.positions, gradients)

    def backward(dgrid: Tensor) -> Tensor:
        dsum = norm_backward(dgrid)  # (B, L, D)
        gradients.add(encoder.positions, dsum.sum(0), "sum over the images")
        dfeatures = project_backward(dsum)
        return convolutions_backward(dfeatures.mT.reshape(shape)) if shape else dfeatures

    return grid, backward


def embed(model: Captioner, words: Tensor, gradients: Gradients) -> tuple[Tensor, Backward]:
    """Returns the vectors (B, T, D) of words (B, T): √D times rows of the embedding."""
    weight = model.embedding.weight  # (V, D)
    scale = weight.shape[1] ** 0.5

    def backward(dvectors: Tensor) -> Tensor:
        rows = torch.zeros_like(weight).index_add(0, words.flatten(), scale * dvectors.flatten(0, 1))
        gradients.add(weight, rows, "sum over the word's positions")
        return dvectors

    return scale * weight[words], backward


def word_loss(model: Captioner, states: Tensor, targets: Tensor, gradients: Gradients) -> tuple[Tensor, Tensor]:
    """Returns the loss of states (B, T, D) and next words (B, T), PAD left out, and the gradient of the states."""
    logits, output_backward = step(model.output, states, gradients)
    known = targets != PAD  # (B, T)
    dlogits = torch.zeros_like(logits)
    dlogits[known] = cross_entropy_backward(logits[known], targets[known])
    return cross_entropy(logits[known], targets[known]), output_backward(dlogits)


def _unroll_rnn(
    model: CaptionRNN, vectors: Tensor, grid: Tensor, gradients: Gradients
) -> tuple[Tensor, DecoderBackward]:
    rnn: Any = model.rnn
    w_x, w_h, bias = rnn.weight_ih_l0, rnn.weight_hh_l0, rnn.bias_ih_l0 + rnn.bias_hh_l0
    initial, initial_backward = step(model.initial, grid.flatten(1), gradients)
    states = [initial]  # h_0 … h_T
    for vector in vectors.unbind(1):
        states.append(rnn_step(vector, states[-1], w_x, w_h, bias))

    def backward(dstates: Tensor) -> tuple[Tensor, Tensor]:
        dvectors, dstate = torch.zeros_like(vectors), torch.zeros_like(initial)
        for t in reversed(range(vectors.shape[1])):
            dstate = dstate + dstates[:, t]  # h_t feeds the output at t and the step t + 1
            dvectors[:, t], dstate, dw_x, dw_h, dbias = rnn_step_backward(
                dstate, states[t + 1], vectors[:, t], states[t], w_x, w_h
            )
            _add_recurrent(gradients, [rnn.weight_ih_l0, rnn.weight_hh_l0], [dw_x, dw_h], "rnn_step_backward")
            _add_recurrent(gradients, [rnn.bias_ih_l0, rnn.bias_hh_l0], [dbias, dbias], "rnn_step_backward")
        return dvectors, initial_backward(dstate).reshape(grid.shape)

    return torch.stack(states[1:], 1), backward


def _unroll_lstm(
    model: CaptionLSTM, vectors: Tensor, grid: Tensor, gradients: Gradients
) -> tuple[Tensor, DecoderBackward]:
    cell: Any = model.cell if model.attends else model.lstm
    suffix = "" if model.attends else "_l0"
    weights = [getattr(cell, f"weight_{kind}{suffix}") for kind in ("ih", "hh")]
    biases = [getattr(cell, f"bias_{kind}{suffix}") for kind in ("ih", "hh")]
    w_x, w_h, bias = *weights, biases[0] + biases[1]
    summary = grid.mean(1) if model.attends else grid.flatten(1)
    initial, initial_backward = step(model.initial, summary, gradients)
    state, cells = initial.chunk(2, 1)
    inputs: list[Tensor] = []
    before: list[tuple[Tensor, Tensor]] = []  # state and cells before each step
    queries: list[tuple[Tensor, Backward]] = []
    states: list[Tensor] = []
    for x in vectors.unbind(1):
        if model.attends:
            queries.append(step(model.query, state, gradients))
            x = torch.cat([x, attention(queries[-1][0][:, None], grid, grid)[:, 0]], 1)  # (B, 2D)
        inputs.append(x)
        before.append((state, cells))
        state, cells = lstm_step(x, state, cells, w_x, w_h, bias)
        states.append(state)

    def backward(dstates: Tensor) -> tuple[Tensor, Tensor]:
        dvectors, dgrid = torch.zeros_like(vectors), torch.zeros_like(grid)
        dstate, dcells = torch.zeros_like(state), torch.zeros_like(cells)
        for t in reversed(range(len(inputs))):
            dstate = dstate + dstates[:, t]  # h_t feeds the output at t and the step t + 1
            dx, dstate, dcells, dw_x, dw_h, dbias = lstm_step_backward(
                dstate, dcells, inputs[t], *before[t], w_x, w_h, bias
            )
            _add_recurrent(gradients, [*weights, *biases], [dw_x, dw_h, dbias, dbias], "lstm_step_backward")
            if model.attends:
                dx, dcontext = dx.chunk(2, 1)
                query, query_backward = queries[t]
                dquery, dkeys, dvalues = attention_backward(dcontext[:, None], query[:, None], grid, grid)
                dgrid += dkeys + dvalues  # the grid is both keys and values
                dstate = dstate + query_backward(dquery[:, 0])
            dvectors[:, t] = dx
        dsummary = initial_backward(torch.cat([dstate, dcells], 1))
        if model.attends:  # the mean: each position has the same part
            return dvectors, dgrid + dsummary[:, None] / grid.shape[1]
        return dvectors, dsummary.reshape(grid.shape)

    return torch.stack(states, 1), backward


def _add_recurrent(
    gradients: Gradients, parameters: list[nn.Parameter], of_parameters: list[Tensor], function: str
) -> None:
    for parameter, gradient in zip(parameters, of_parameters, strict=True):
        gradients.add(parameter, gradient, function)

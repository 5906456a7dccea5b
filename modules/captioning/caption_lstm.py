"""Image captioning with long short-term memory (LSTM), with or without attention to the image before each word.

    gates i, f, o = σ(…), g = tanh(…)        of W_x x_t + b_x + W_h h_{t−1} + b_h, a quarter each
    c_t = f ⊙ c_{t−1} + i ⊙ g,    h_t = o ⊙ tanh(c_t)
    logits of w_{t+1} = W_o h_t + b_o        x_t: vector of the word w_t, w_1 = START

    without attention    h_0, c_0 = W_i g + b_i          g: the image's grid, flattened
    with attention       h_0, c_0 = W_i ḡ + b_i          ḡ: the mean of the grid's vectors g_l
                         α_t = softmax_l (q · g_l / √D),    q = W_q h_{t−1} + b_q
                         x_t is concatenated with the context vector Σ_l α_tl g_l

Sources: S. Hochreiter, J. Schmidhuber, Neural Computation 9(8), 1997; O. Vinyals et al., arXiv 1411.4555, Show and
Tell; K. Xu et al., arXiv 1502.03044, Show, Attend and Tell, with the scaled inner product of A. Vaswani et al., arXiv
1706.03762; https://cs231n.github.io/rnn/.

    python -m pipelines.train fit --config caption_lstm
    python -m pipelines.train fit --config caption_lstm --model.attention false

Shapes: B images in a batch, K captions of an image, T words, V words in the vocabulary, L positions of the grid, D
width.
"""

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import UserError
from modules.captioning.captioner import Captioner
from modules.captioning.decoding import Memory, State


class CaptionLSTM(Captioner):
    """Captions images with an LSTM of D cells; see `Captioner` for the other settings.

    Args:
        input_shape: Shape of the inputs.
        vocabulary: V words by id, the special ones first.
        width: Number of cells D, ≥ 1.
        attention: Whether to attend to the grid before each word; otherwise the image enters only the initial state.

    Raises:
        ValueError: If a value is out of its range.
    """

    state_names: ClassVar[tuple[str, ...]] = ("h", "c")

    def __init__(
        self,
        input_shape: tuple[int, ...],
        vocabulary: list[str],
        width: int = 256,
        attention: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(input_shape, vocabulary, width, **kwargs)
        self.attends = attention
        self.initial = nn.Linear(width if attention else self.encoder.positions.numel(), 2 * width)
        if attention:
            self.query = nn.Linear(width, width)
            self.cell = nn.LSTMCell(2 * width, width)
        else:
            self.lstm = nn.LSTM(width, width, batch_first=True)

    def start(self, memory: Memory) -> State:
        (grid,) = memory
        hidden, cells = self.initial(grid.mean(1) if self.attends else grid.flatten(1)).chunk(2, 1)
        return hidden, cells  # (B, D) each

    def forward_decoder(self, memory: Memory, words: Tensor) -> Tensor:
        return self.output(self.dropout(self._states(memory, words)))

    def step(self, words: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        vectors = self.embed(words)
        if self.attends:
            state = self.cell(self._with_context(vectors, state[0], memory[0]), state)
            return self.output(self.dropout(state[0])), state
        _, last = self.lstm(vectors[:, None], (state[0][None], state[1][None]))
        hidden, cells = (part[0] for part in last)  # (B, D) each
        return self.output(self.dropout(hidden)), (hidden, cells)

    def _states(self, memory: Memory, words: Tensor) -> Tensor:
        """States h_1 … h_T of the words (B, T): (B, T, D)."""
        vectors, state = self.embed(words), self.start(memory)
        if not self.attends:  # one call for all steps, since their inputs don't depend on the states
            return self.lstm(vectors, tuple(part[None].contiguous() for part in state))[0]
        states: list[Tensor] = []
        for vector in vectors.unbind(1):
            state = self.cell(self._with_context(vector, state[0], memory[0]), state)
            states.append(state[0])
        return torch.stack(states, 1)

    def _with_context(self, vectors: Tensor, hidden: Tensor, grid: Tensor) -> Tensor:
        """Joins word vectors (B·K, D) with the context of states (B·K, D) in the grid (B, L, D): (B·K, 2D)."""
        heads = grid[:, None]  # (B, 1, L, D): the fused kernel takes heads, here one
        queries = self.query(hidden).unflatten(0, (len(grid), 1, -1))  # (B, 1, K, D)
        context = F.scaled_dot_product_attention(queries, heads, heads)
        return torch.cat([vectors, context.flatten(0, 2)], 1)

    def attention_maps(self, inputs: Tensor, words: Tensor) -> Tensor:
        """Attention weights (B, T, L) before each next word.

        Args:
            inputs: Inputs (B, *input_shape).
            words: Ids of words (B, T), START first.

        Raises:
            ValueError: If the model has no attention.
        """
        if not self.attends:
            raise UserError("This CaptionLSTM has no attention to show; train one with attention set to true.")
        memory = self.encode(inputs)
        states = self._states(memory, words)
        previous = torch.cat([self.start(memory)[0][:, None], states[:, :-1]], 1)  # h_0 … h_{T−1}
        return (self.query(previous) @ memory[0].mT / memory[0].shape[2] ** 0.5).softmax(2)

"""Image captioning with a vanilla recurrent network (RNN) whose initial state encodes the image.

    h_0 = W_i g + b_i                                    g: the image's grid, flattened
    h_t = tanh(W_x x_t + b_x + W_h h_{t−1} + b_h)        x_t: vector of the word w_t, w_1 = START
    logits of w_{t+1} = W_o h_t + b_o

Source: https://cs231n.github.io/rnn/. The image enters only the initial state, and every step overwrites part of it:
the reason for LSTM (`caption_lstm.py`) and for attention.

    python -m pipelines.train fit --config caption_rnn

Shapes: B images in a batch, T words, V words in the vocabulary, L positions of the grid, D width.
"""

from typing import Any, ClassVar

from torch import Tensor, nn

from modules.captioning.captioner import Captioner
from modules.captioning.decoding import Memory, State


class CaptionRNN(Captioner):
    """Captions images with a vanilla RNN of D tanh units; see `Captioner` for the other settings.

    Args:
        input_shape: Shape of the inputs.
        vocabulary: V words by id, the special ones first.
        width: Number of units D, ≥ 1.

    Raises:
        ValueError: If a value is out of its range.
    """

    state_names: ClassVar[tuple[str, ...]] = ("h",)

    def __init__(self, input_shape: tuple[int, ...], vocabulary: list[str], width: int = 256, **kwargs: Any) -> None:
        super().__init__(input_shape, vocabulary, width, **kwargs)
        self.initial = nn.Linear(self.encoder.positions.numel(), width)
        self.rnn = nn.RNN(width, width, nonlinearity="tanh", batch_first=True)

    def forward_decoder(self, memory: Memory, words: Tensor) -> Tensor:
        states, _ = self.rnn(self.embed(words), self.start(memory)[0][None])  # (B, T, D)
        return self.output(self.dropout(states))

    def start(self, memory: Memory) -> State:
        return (self.initial(memory[0].flatten(1)),)  # (B, D)

    def step(self, words: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        hidden = self.rnn(self.embed(words)[:, None], state[0][None])[1][0]  # (B, D)
        return self.output(self.dropout(hidden)), (hidden,)

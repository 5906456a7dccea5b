"""Image captioning with a vanilla recurrent network, which starts from the image.

    h_0 = W_i g + b_i                                    g: the grid, all its places in a row
    h_t = tanh(W_x x_t + b_x + W_h h_{t−1} + b_h)        x_t: vector of the word w_t, w_1 = START
    logits of w_{t+1} = W_o h_t + b_o

Source: https://cs231n.github.io/rnn/. The image is told once, and every word overwrites part of it: the reason for LSTM
(`caption_lstm.py`) and for attention.

    python -m pipelines.train fit --config caption_rnn

Shapes: B images in a batch, T words, V words in the vocabulary, L places of the grid, D width.
"""

from typing import Any

from torch import Tensor, nn

from modules.captioning.captioner import Captioner
from modules.captioning.decoding import Memory, State


class CaptionRNN(Captioner):
    """Writes captions with a tanh recurrence of D units; see `Captioner` for the settings.

    Args:
        input_shape: of the inputs.
        vocabulary: V words, the special ones first.
        width: D.

    Raises:
        ValueError: a value out of range.
    """

    def __init__(self, input_shape: tuple[int, ...], vocabulary: list[str], width: int = 256, **kwargs: Any) -> None:
        super().__init__(input_shape, vocabulary, width, **kwargs)
        self.initial = nn.Linear(self.encoder.places.numel(), width)
        self.rnn = nn.RNN(width, width, nonlinearity="tanh", batch_first=True)

    def score(self, memory: Memory, words: Tensor) -> Tensor:
        return self._read(words, *self.start(memory))[0]

    def start(self, memory: Memory) -> State:
        return (self.initial(memory[0].flatten(1)),)  # (B, D)

    def step(self, words: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        logits, hidden = self._read(words[:, None], *state)
        return logits[:, 0], (hidden,)

    def _read(self, words: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Words (B, T) after the state (B, D) to logits (B, T, V) and the state after them."""
        states, last = self.rnn(self.embed(words), hidden[None])  # (B, T, D), (1, B, D)
        return self.output(self.dropout(states)), last[0]

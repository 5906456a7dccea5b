"""Image captioning with a Transformer: each word asks the words before it and the places of the image.

    x_t = √D E[w_t] + p_t,    p_t,2i = sin(t / 10000^(2i/D)),  p_t,2i+1 = cos(t / 10000^(2i/D)),    t = 0, 1, …
    x ← layer(x, grid), `num_layers` times: causal self-attention, cross-attention to the grid, small network
    logits of w_{t+1} = W_o x_t + b_o

The causal mask lets training score all words of a caption at once: no place sees a later word. In decoding the keys and
values of the words so far are kept, so that each step computes those of one word. By a setting the grid passes through
`encoder_layers` layers of self-attention first. The layers themselves are in `transformer_layer.py`.

Source: A. Vaswani et al., arXiv 1706.03762, with the image's grid in the place of its encoder's sentence.

    python -m pipelines.train fit --config caption_transformer

Shapes: B images in a batch, T words, V words in the vocabulary, L places of the grid, D width, H heads of D_h = D/H.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from common.errors import UserError
from modules.captioning.captioner import Captioner
from modules.captioning.decoding import Memory, State
from modules.captioning.transformer_layer import NormPlace, TransformerLayer


class CaptionTransformer(Captioner):
    """Writes captions with a Transformer's decoder; see `Captioner` for the other settings.

    Args:
        input_shape: of the inputs.
        vocabulary: V words, the special ones first.
        width: D, even.
        num_layers: of the decoder, at least 1.
        num_heads: H of every attention, which divides D.
        hidden: units of the small network in each layer, at least 1; None takes 4D.
        encoder_layers: layers of self-attention over the grid, at least 0.
        norm: pre or post: where each layer normalizes.
        dropout: Probability of dropping a value, in [0, 1), in embeddings, attention weights and residual branches.

    Raises:
        ValueError: a value out of range.
    """

    attends: ClassVar[bool] = True  # whether `attention_maps` has something to show

    def __init__(
        self,
        input_shape: tuple[int, ...],
        vocabulary: list[str],
        width: int = 256,
        num_layers: int = 3,
        num_heads: int = 4,
        hidden: int | None = None,
        encoder_layers: int = 0,
        norm: NormPlace = "pre",
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(input_shape, vocabulary, width, dropout=dropout, **kwargs)
        if num_layers < 1 or encoder_layers < 0:
            raise UserError(
                f"num_layers is {num_layers} and encoder_layers is {encoder_layers}; give at least 1 and at least 0."
            )
        if width % 2:
            raise UserError(f"width is {width}; give an even number, for sines and cosines in pairs.")
        settings = (width, num_heads, 4 * width if hidden is None else hidden)
        self.look = nn.ModuleList(TransformerLayer(*settings, False, norm, dropout) for _ in range(encoder_layers))
        self.layers = nn.ModuleList(TransformerLayer(*settings, True, norm, dropout) for _ in range(num_layers))
        # With pre-norm nothing has normalized the sum that leaves the last layer.
        self.norm = nn.LayerNorm(width) if norm == "pre" else nn.Identity()
        self.grid_norm = nn.LayerNorm(width) if norm == "pre" and encoder_layers else nn.Identity()

    def remember(self, inputs: Tensor) -> Memory:
        """Keys and values of the grid for each layer: (B, H, L, D_h), two a layer."""
        grid = self.encoder(inputs)
        for layer in self.look:
            grid, _ = layer(grid)
        grid = self.grid_norm(grid)
        return tuple(part for layer in self.layers for part in layer.cross_attention.project(grid))  # type: ignore[union-attr, operator]

    def score(self, memory: Memory, words: Tensor) -> Tensor:
        x = self._place(words, 0)
        for layer, grid in zip(self.layers, _pairs(memory), strict=True):
            x, _ = layer(x, grid, causal=True)
        return self.output(self.norm(x))

    def start(self, memory: Memory) -> State:
        return tuple(part[:, :, :0] for part in memory)  # keys and values of no word yet, two a layer

    def step(self, words: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        x = self._place(words[:, None], state[0].shape[2])
        kept: list[Tensor] = []
        for layer, grid, past in zip(self.layers, _pairs(memory), _pairs(state), strict=True):
            x, keys_values = layer(x, grid, past)
            kept += keys_values
        return self.output(self.norm(x))[:, 0], tuple(kept)

    def attention_maps(self, inputs: Tensor, words: Tensor) -> Tensor:
        """Where the last layer looks before it says each next word, the mean over its heads.

        Args:
            inputs: (B, *input_shape).
            words: (B, T) from START on.

        Returns:
            Weights (B, T, L).
        """
        memory, x = _pairs(self.remember(inputs)), self._place(words, 0)
        for layer, grid in zip(self.layers[:-1], memory, strict=False):
            x, _ = layer(x, grid, causal=True)
        return self.layers[-1].attention_weights(x, memory[-1]).mean(1)  # type: ignore[operator]

    def _place(self, words: Tensor, first: int) -> Tensor:
        """Words (B, T) at places `first` and after: their vectors with the places' waves, (B, T, D)."""
        vectors = self.embed(words)
        places = torch.arange(first, first + words.shape[1], device=vectors.device, dtype=vectors.dtype)
        return vectors + sinusoids(places, vectors.shape[2])


def sinusoids(places: Tensor, width: int) -> Tensor:
    """The waves p_t of places t, (T,), of a number of numbers that is even: (T, width)."""
    rates = 10_000 ** (-torch.arange(0, width, 2, device=places.device, dtype=places.dtype) / width)
    turns = places[:, None] * rates
    return torch.stack([turns.sin(), turns.cos()], 2).flatten(1)


def _pairs(parts: tuple[Tensor, ...]) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of each layer, out of one flat tuple."""
    return list(zip(parts[::2], parts[1::2], strict=True))

"""Image captioning with a Transformer: each word attends to the words before it and to the image.

    x_t = √D E[w_t] + p_t,    p_t,2i = sin(t / 10000^(2i/D)),  p_t,2i+1 = cos(t / 10000^(2i/D)),    t = 0, 1, …
    x ← layer(x, grid), `num_layers` times: causal self-attention, cross-attention to the grid, feed-forward network
    logits of w_{t+1} = W_o x_t + b_o

With the causal mask, training computes all words of a caption in parallel. In decoding, the keys and values of the
words so far are cached, so that each step computes those of one word. Optionally the grid passes through
`encoder_layers` layers of self-attention first. The layers themselves are in `transformer_layer.py`.

Source: A. Vaswani et al., arXiv 1706.03762, with the image's grid instead of a source sentence.

    python -m pipelines.train fit --config caption_transformer

Shapes: B images in a batch, T words, V words in the vocabulary, L positions of the grid, D width, H heads of D_h = D/H.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from common.ranges import check_range
from modules.captioning.attention import recorded_self_attention
from modules.captioning.captioner import Captioner
from modules.captioning.decoding import Memory, State
from modules.captioning.earlier_keys import read_earlier_keys
from modules.captioning.positional_encoding import positional_encoding
from modules.captioning.transformer_layer import NormPosition, TransformerLayer


class CaptionTransformer(Captioner):
    """Captions images with a Transformer decoder; see `Captioner` for the other settings.

    Args:
        input_shape: Shape of the inputs.
        vocabulary: V words by id, the special ones first.
        width: Number of features D, even, ≥ 2.
        num_layers: Number of decoder layers, in [1, 1000].
        num_heads: Number of attention heads H, a divisor of D.
        hidden: Number of hidden units of each feed-forward network, ≥ 1; None for 4D.
        encoder_layers: Number of self-attention layers over the grid, in [0, 1000].
        norm: Position of the LayerNorm in each layer, pre or post.
        dropout: Probability of dropping a value, in [0, 1), in embeddings, attention weights and residual branches.

    Raises:
        ValueError: If a value is out of its range.
    """

    attends: ClassVar[bool] = True  # whether `attention_maps` is available

    def __init__(
        self,
        input_shape: tuple[int, ...],
        vocabulary: list[str],
        width: int = 256,
        num_layers: int = 3,
        num_heads: int = 4,
        hidden: int | None = None,
        encoder_layers: int = 0,
        norm: NormPosition = "pre",
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(input_shape, vocabulary, width, dropout=dropout, **kwargs)
        check_range("num_layers", num_layers, 1 <= num_layers <= 1000, "in [1, 1000]")
        check_range("encoder_layers", encoder_layers, 0 <= encoder_layers <= 1000, "in [0, 1000]")
        check_range("width", width, width % 2 == 0, "even, for pairs of sines and cosines")
        settings = (width, num_heads, 4 * width if hidden is None else hidden)
        self.encoder_layers = nn.ModuleList(
            TransformerLayer(*settings, False, norm, dropout) for _ in range(encoder_layers)
        )
        self.layers = nn.ModuleList(TransformerLayer(*settings, True, norm, dropout) for _ in range(num_layers))
        # The sum that leaves the last pre-norm layer is not normalized yet.
        self.norm = nn.LayerNorm(width) if norm == "pre" else nn.Identity()
        self.grid_norm = nn.LayerNorm(width) if norm == "pre" and encoder_layers else nn.Identity()
        read_earlier_keys(self, {"look.": "encoder_layers."})

    def encode(self, inputs: Tensor) -> Memory:
        """Keys and values of the grid for each layer: (B, H, L, D_h), two a layer."""
        grid = self.encoder(inputs)
        for layer in self.encoder_layers:
            grid, _ = layer(grid)
        grid = self.grid_norm(grid)
        return tuple(part for layer in self.layers for part in layer.cross_attention.project(grid))  # type: ignore[union-attr, operator]

    def forward_decoder(self, memory: Memory, words: Tensor) -> Tensor:
        x = self._embed_with_positions(words, 0)
        for layer, grid in zip(self.layers, _pairs(memory), strict=True):
            x, _ = layer(x, grid, causal=True)
        return self.output(self.norm(x))

    def start(self, memory: Memory) -> State:
        return tuple(part[:, :, :0] for part in memory)  # keys and values of zero words, two a layer

    def step(self, words: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        x = self._embed_with_positions(words[:, None], state[0].shape[2])
        cache: list[Tensor] = []
        for layer, grid, past in zip(self.layers, _pairs(memory), _pairs(state), strict=True):
            x, keys_values = layer(x, grid, past)
            cache += keys_values
        return self.output(self.norm(x))[:, 0], tuple(cache)

    def attention_maps(self, inputs: Tensor, words: Tensor) -> Tensor:
        """Attention weights (B, T, L) of the last layer before each next word, averaged over its heads.

        Args:
            inputs: Inputs (B, *input_shape).
            words: Ids of words (B, T), START first.
        """
        memory, x = _pairs(self.encode(inputs)), self._embed_with_positions(words, 0)
        for layer, grid in zip(self.layers[:-1], memory, strict=False):
            x, _ = layer(x, grid, causal=True)
        return self.layers[-1].attention_weights(x, memory[-1]).mean(1)  # type: ignore[operator]

    def self_attention_maps(self, inputs: Tensor, words: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Weights of self-attention in each layer: of the encoder (B, H, L, L), of the decoder (B, H, T, T).

        Row t holds the weights of query t; those of a decoder are 0 right of the diagonal.

        Args:
            inputs: Inputs (B, *input_shape).
            words: Ids of words (B, T), START first.
        """
        with recorded_self_attention(self) as recorded:
            self(inputs, words)
        stacks = ("encoder_layers", self.encoder_layers), ("layers", self.layers)
        encoder, decoder = ([recorded[f"{name}.{i}"] for i in range(len(stack))] for name, stack in stacks)
        return encoder, decoder

    def _embed_with_positions(self, words: Tensor, first: int) -> Tensor:
        """Vectors of words (B, T) plus encodings of their positions, `first` and after: (B, T, D)."""
        vectors = self.embed(words)
        positions = torch.arange(first, first + words.shape[1], device=vectors.device, dtype=vectors.dtype)
        return vectors + positional_encoding(positions, vectors.shape[2])


def _pairs(parts: tuple[Tensor, ...]) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of each layer, from one flat tuple."""
    return list(zip(parts[::2], parts[1::2], strict=True))

"""What all captioners share: what they see and say, the loss, decoding in validation, and the figures of captions.

    loss = − (1/N) Σ_t log P(w_t | w_1 … w_{t−1}, image)        over the N words and ENDs of a batch, PAD left out

In training the model reads the true words before each word (teacher forcing). In validation and test it reads its own:
captions are written as `decoding.py` says, and scored as the field scores them.

    val/cider and others    `caption_figures.py`
    val/loss                of the first reference of each image, teacher forced, without label smoothing

A topic says what it remembers of an image, and how it scores words, all at once (`score`) or one by one (`step`).
Sources: O. Vinyals et al., arXiv 1411.4555; https://cs231n.github.io/rnn/; O. Press, L. Wolf, arXiv 1608.05859, for one
matrix that words are read and scored with.

Shapes: B images in a batch, T words, V words in the vocabulary, L places of the grid, D width.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import MeanMetric

from common.caption_words import PAD, caption, check_same_words, check_vocabulary
from common.errors import UserError
from modules.base.buffered_metrics import BufferedMetrics
from modules.captioning.caption_scores import CaptionScores
from modules.captioning.decoding import Memory, State, beam_search, check_search, greedy, sample
from modules.captioning.image_encoder import ImageEncoder
from modules.captioning.word_vectors import load_word_vectors
from modules.interpretation.feature_extraction import evaluating
from modules.networks.initialization import check_settings

CaptionBatch = tuple[Tensor, Tensor]  # inputs (B, ...), words (B, T + 1) from START to END and PAD
EvaluationBatch = tuple[Tensor, Tensor, list[list[str]]]  # and the references of each image


class Captioner(BufferedMetrics):
    """Writes captions of images; logs `train/loss`, and `val/…` and `test/…` figures of the captions it writes.

    Args:
        input_shape: of the inputs: images (C, H, W), grid features (L, D′) or pooled features (D′,).
        vocabulary: V words, the special ones first: <pad>, <start>, <end>, <unk>.
        width: D, of word vectors, states and the grid.
        channels: of each stage of the convolutions that look at images.
        backbone: name of a model of timm that looks at the images instead, such as resnet18.
        pretrained: weights of the backbone: hub downloads those that timm names, a path reads a file (.safetensors or
            .pth); None starts at random.
        freeze_backbone: leave the backbone as it is.
        tie_embeddings: score a word by the inner product with the vector that it is read as.
        word_vectors: file of word vectors to begin with, in GloVe's text format, of `width` numbers each.
        dropout: Probability of dropping a value, in [0, 1).
        label_smoothing: ε, in [0, 1): the target is 1 − ε for the true word plus ε/V for every word.
        max_length: of captions that are written, in words, at least 1.
        beam_size: K of the beam in `test` and `predict`, at least 1; 1 decodes greedily, as validation always does.
        length_penalty: α of the beam, at least 0.

    Raises:
        ValueError: a value out of the range given above, or a vocabulary without the special words.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        vocabulary: list[str],
        width: int = 128,
        channels: Sequence[int] = (32, 64, 128),
        backbone: str | None = None,
        pretrained: str | None = None,
        freeze_backbone: bool = False,
        tie_embeddings: bool = True,
        word_vectors: str | None = None,
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        max_length: int = 20,
        beam_size: int = 1,
        length_penalty: float = 0.0,
    ) -> None:
        super().__init__()
        check_vocabulary(vocabulary)
        check_settings(dropout=dropout)
        if width < 1:
            raise UserError(f"width is {width}; give at least 1.")
        if not 0 <= label_smoothing < 1:
            raise UserError(f"label_smoothing is {label_smoothing}; give a share from 0 up to, but not, 1.")
        check_search(max_length, beam_size, length_penalty)
        self.save_hyperparameters(logger=False)
        # A checkpoint has these weights; whoever loads it needs neither the file nor the network that they came from.
        self.hparams["pretrained"] = self.hparams["word_vectors"] = None
        self.vocabulary = list(vocabulary)
        self.label_smoothing = label_smoothing
        self.max_length, self.beam_size, self.length_penalty = max_length, beam_size, length_penalty
        self.encoder = ImageEncoder(input_shape, width, channels, backbone, pretrained, freeze_backbone)
        self.embedding = nn.Embedding(len(vocabulary), width)
        self.output = nn.Linear(width, len(vocabulary))
        for weight in (self.embedding.weight, self.output.weight):
            nn.init.normal_(weight, std=width**-0.5)
        nn.init.zeros_(self.output.bias)
        if word_vectors is not None:
            load_word_vectors(word_vectors, vocabulary, self.embedding.weight.data)
        if tie_embeddings:
            self.output.weight = self.embedding.weight
        self.dropout = nn.Dropout(dropout)
        # In float64, or the sum over a data set would depend on how its batches were shared among processes.
        self.eval_loss = MeanMetric().set_dtype(torch.float64)
        self.figures = CaptionScores()

    def remember(self, inputs: Tensor) -> Memory:
        """What is needed of the inputs (B, *input_shape) while words are scored; the grid (B, L, D) comes first."""
        return (self.encoder(inputs),)

    def score(self, memory: Memory, words: Tensor) -> Tensor:
        """Reads all words (B, T) from START on: logits (B, T, V) of the words that come next. A topic's own."""
        raise NotImplementedError(f"{type(self).__name__} must say how it scores words.")

    def start(self, memory: Memory) -> State:
        """The state before the first word, for `decoding.py`. A topic's own."""
        raise NotImplementedError(f"{type(self).__name__} must say its first state.")

    def step(self, words: Tensor, state: State, memory: Memory) -> tuple[Tensor, State]:
        """Reads one word (B,): logits (B, V) of the word that comes next, and the new state. A topic's own."""
        raise NotImplementedError(f"{type(self).__name__} must say how it reads a word.")

    def forward(self, inputs: Tensor, words: Tensor) -> Tensor:
        """Inputs (B, *input_shape) and words (B, T) from START on to logits (B, T, V) of the words that come next."""
        return self.score(self.remember(inputs), words)

    def embed(self, words: Tensor) -> Tensor:
        """Words (...) to their vectors (..., D), times √D: drawn small enough to score with, too small to read."""
        try:
            vectors: Tensor = self.embedding(words)
        except IndexError as error:
            raise UserError(
                f"The words go up to number {int(words.max())}, but the vocabulary has {len(self.vocabulary)}; give "
                "captions in the model's own vocabulary."
            ) from error
        return self.dropout(vectors * self.embedding.embedding_dim**0.5)

    def loss(self, logits: Tensor, words: Tensor) -> Tensor:
        """Mean cross-entropy, smoothed in training, of logits (B, T, V) and the words to come (B, T), PAD left out."""
        smoothing = self.label_smoothing if self.training else 0.0
        return F.cross_entropy(logits.flatten(0, 1), words.flatten(), ignore_index=PAD, label_smoothing=smoothing)

    def training_step(self, batch: CaptionBatch, batch_idx: int) -> Tensor:
        inputs, words = batch
        loss = self.loss(self(inputs, words[:, :-1]), words[:, 1:])
        number = (words[:, 1:] != PAD).sum()
        self.count_training_batch(number, loss=loss.detach() * number)
        return loss * _weight(number)

    def validation_step(self, batch: EvaluationBatch, batch_idx: int) -> dict[str, list[str]]:
        """Writes and scores captions, greedily; returns them for callbacks, as `captions`."""
        return self._evaluate(batch, beam_size=1)

    def test_step(self, batch: EvaluationBatch, batch_idx: int) -> dict[str, list[str]]:
        """Writes and scores captions; returns them for callbacks, as `captions`."""
        return self._evaluate(batch, self.beam_size)

    def _evaluate(self, batch: EvaluationBatch, beam_size: int) -> dict[str, list[str]]:
        inputs, words, references = batch
        memory = self.remember(inputs)
        loss = self.loss(self.score(memory, words[:, :-1]), words[:, 1:])
        self.eval_loss.update(loss.double(), (words[:, 1:] != PAD).sum())
        captions = self._write(memory, beam_size, self.length_penalty, self.max_length)
        self.figures.update(captions, references)
        return {"captions": captions}

    def on_validation_epoch_end(self) -> None:
        self.log_dict(self._all_figures("val"), prog_bar=True)

    def on_test_epoch_end(self) -> None:
        images = self.trainer.strategy.reduce(self.figures.images.double(), reduce_op="sum")
        self.log_dict(self._all_figures("test") | {"test/images": images})

    def _all_figures(self, split: str) -> dict[str, Tensor]:
        """All figures by name, over all processes; starts counting anew."""
        figures = {"loss": self.eval_loss.compute()} | self.figures.compute()
        self.eval_loss.reset()
        return {f"{split}/{name}": value for name, value in figures.items()}

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> list[str]:
        """Captions of a batch of inputs and their places in the data."""
        return self.caption(batch[0])

    @torch.no_grad()
    def caption(
        self,
        inputs: Tensor,
        beam_size: int | None = None,
        length_penalty: float | None = None,
        max_length: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
    ) -> list[str]:
        """Captions of inputs (B, *input_shape), each its words with spaces between them.

        Args:
            inputs: preprocessed as for training.
            beam_size: None takes the model's, as for the two that follow.
            length_penalty: of the beam.
            max_length: in words.
            temperature: draw words at random instead, from P sharpened (below 1) or flattened (above 1).
            top_k: draw among the k most probable words alone.

        Raises:
            ValueError: a value out of range.
        """
        with evaluating(self):
            return self._write(
                self.remember(inputs),
                self.beam_size if beam_size is None else beam_size,
                self.length_penalty if length_penalty is None else length_penalty,
                self.max_length if max_length is None else max_length,
                temperature,
                top_k,
            )

    def _write(
        self,
        memory: Memory,
        beam_size: int,
        length_penalty: float,
        max_length: int,
        temperature: float | None = None,
        top_k: int | None = None,
    ) -> list[str]:
        if temperature is not None or top_k is not None:
            words = sample(self, memory, max_length, 1.0 if temperature is None else temperature, top_k)
        elif beam_size == 1:
            words = greedy(self, memory, max_length)
        else:
            words, _ = beam_search(self, memory, max_length, beam_size, length_penalty)
        return [caption(numbers, self.vocabulary) for numbers in words.tolist()]

    def setup(self, stage: str) -> None:
        data = getattr(self.trainer, "datamodule", None)
        check_same_words(getattr(data, "vocabulary", self.vocabulary), self.vocabulary, "The data's vocabulary")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # Beside the hyperparameters, where `load_from_checkpoint` overwrites it with a vocabulary that it is given.
        checkpoint["vocabulary"] = self.vocabulary

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        check_same_words(checkpoint["vocabulary"], self.vocabulary, "The checkpoint's vocabulary")


def _weight(number: Tensor) -> Tensor | float:
    """How much this process's mean over its words counts in DDP's mean over processes, to be one over all words."""
    if not (dist.is_available() and dist.is_initialized()):
        return 1.0
    everywhere = number.float()
    dist.all_reduce(everywhere)
    return number * dist.get_world_size() / everywhere

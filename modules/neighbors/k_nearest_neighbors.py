"""k-nearest neighbors: training memorizes all images, and an image gets the class that most of its k nearest have.

How the neighbors are found stands in `nearest_neighbors.py`, how they vote in `votes.py`.

Source: T. Cover, P. Hart, "Nearest neighbor pattern classification", IEEE Transactions on Information Theory, 1967;
https://cs231n.github.io/classification/#k-nearest-neighbor-classifier

    python -m pipelines.train fit --config knn

Shapes: B images in a batch, N memorized images, K classes, k neighbors.
"""

from typing import Any, ClassVar, Protocol, get_args, runtime_checkable

import torch
from torch import Tensor, nn

from common.errors import UserError
from modules.base.classifier import Classifier, ImageBatch
from modules.neighbors.nearest_neighbors import Metric, NearestNeighbors
from modules.neighbors.votes import CorrectByK, Weights, votes

_SMOOTHING = 1e-6  # share of the votes that every class has in the logits, and the winner twice


@runtime_checkable
class HasTrainingImages(Protocol):
    """A datamodule that hands over its whole training split."""

    def training_images(self) -> tuple[Tensor, Tensor]:
        """Images (N, ...), preprocessed as the model sees them, and labels (N,) int64."""


class KNearestNeighbors(Classifier):
    """Classifies by the nearest memorized images; logs the accuracy of `k` and, as `val/accuracy/k=3`, of others.

    Args:
        input_shape: shape of one image.
        num_classes: K, at least 2.
        k: neighbors that vote, at least 1.
        metric: l1, l2 or cosine.
        weights: majority (one vote each) or distance (1 / distance).
        report_k: other numbers of neighbors whose accuracy is logged, each at least 1.
        k_max: accuracies are known for all k up to this, at least 1; it is raised to `k` and `report_k`.
        memory_limit: bytes of distances held at a time.

    Raises:
        ValueError: a value out of the range given above.
    """

    one_pass_settings: ClassVar[dict[str, str]] = {"k": "report_k"}  # read by pipelines.crossval

    images: Tensor  # (N, *input_shape)
    labels: Tensor  # (N,)

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        k: int = 5,
        metric: Metric = "l2",
        weights: Weights = "majority",
        report_k: list[int] | None = None,
        k_max: int = 50,
        memory_limit: int = 2**28,
    ) -> None:
        super().__init__(num_classes)
        for name, value in [("k", k), *(("report_k", each) for each in report_k or []), ("k_max", k_max)]:
            if value < 1:
                raise UserError(f"{name} is {value}; give at least 1 neighbor.")
        if memory_limit < 1:
            raise UserError(f"memory_limit is {memory_limit}; give at least 1 byte, such as 2**28.")
        for name, choice, accepted in (("metric", metric, get_args(Metric)), ("weights", weights, get_args(Weights))):
            if choice not in accepted:
                raise UserError(f"{name} is {choice!r}; give one of {', '.join(accepted)}.")
        self.save_hyperparameters(logger=False)
        self.k, self.metric, self.weights, self.memory_limit = k, metric, weights, memory_limit
        self.report_k = list(report_k or [])
        self.k_max = max(k, k_max, *self.report_k)
        self.register_buffer("images", torch.empty(0, *input_shape, dtype=torch.uint8))
        self.register_buffer("labels", torch.empty(0, dtype=torch.int64))
        # Lightning writes a checkpoint only after a step of an optimizer, which needs a parameter, if only this one.
        self.unused = nn.Parameter(torch.zeros(()), requires_grad=False)
        self.automatic_optimization = False
        self.correct_by_k = CorrectByK(self.k_max)
        self._search: NearestNeighbors | None = None

    def memorize(self, images: Tensor, labels: Tensor) -> None:
        """Takes the images (N, *input_shape), uint8 pixels or floats, and labels (N,) for its memory.

        Raises:
            ValueError: fewer images than neighbors are asked for, or another number of labels.
        """
        if len(images) != len(labels):
            raise UserError(f"There are {len(images)} images and {len(labels)} labels; give one label to each image.")
        if self.k_max > len(images):
            raise UserError(
                f"The {self.k_max} nearest neighbors are wanted, the largest of k, report_k and k_max, but there are "
                f"{len(images)} images to memorize; set them to at most {len(images)}."
            )
        self.images, self.labels = images.to(self.images.device), labels.to(self.labels.device)
        self._search = None

    def setup(self, stage: str) -> None:
        if stage != "fit":
            return
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, HasTrainingImages):
            raise UserError(
                f"{type(self).__name__} memorizes the whole training split, which batches don't show; train it on a "
                "datamodule with training_images(), such as CIFAR10."
            )
        self.memorize(*data.training_images())
        self.unused.requires_grad_(True)  # or there would be nothing that several processes could agree on

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([self.unused], lr=0.0)

    def training_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        """Counts a step and learns nothing: all was memorized before."""
        optimizer: Any = self.optimizers()
        loss = 0 * self.unused
        self.manual_backward(loss)
        optimizer.step()
        return loss.detach()

    def on_fit_end(self) -> None:
        self.unused.requires_grad_(False)  # nothing is left to train

    def on_train_batch_end(self, outputs: Any, batch: ImageBatch, batch_idx: int) -> None:
        """Nothing: there are no figures of training."""

    def neighbors(self, images: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k nearest memorized images of each image (B, *input_shape), nearest first.

        Returns:
            Distances (B, k) float64 and places in `images` and `labels`, (B, k) int64.

        Raises:
            ValueError: nothing memorized, k above N, images of another shape or kind, a zero image under cosine.
        """
        if not len(self.images):
            raise UserError("No images are memorized yet; run fit first, or give the checkpoint of a run.")
        if self._search is None:
            self._search = NearestNeighbors(self.images, self.metric, self.memory_limit)
        return self._search.search(images, k)

    def votes_by_k(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Vote shares and winners for all k: images (B, *input_shape) to (B, k_max, K) float64 and (B, k_max) int64."""
        distances, places = self.neighbors(images, self.k_max)
        return votes(distances, self.labels[places], self.num_classes, self.weights)

    @torch.no_grad()  # a vote changes by leaps: there is no gradient
    def forward(self, images: Tensor) -> Tensor:
        """The logarithm of the vote shares, (B, K); before anything is memorized all classes share alike."""
        if not len(self.images):
            return images.new_zeros(len(images), self.num_classes, dtype=torch.float32)
        return self._logits(*self.votes_by_k(images))

    def _logits(self, shares: Tensor, winners: Tensor) -> Tensor:
        shares, winner = shares[:, self.k - 1], winners[:, self.k - 1, None]
        # No logarithm of 0, and among equal shares the winner's is the largest.
        smoothed = (shares + _SMOOTHING).scatter_add(1, winner, torch.full_like(shares[:, :1], _SMOOTHING))
        return (smoothed / smoothed.sum(1, keepdim=True)).log().float()

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean of −ln p for the true class, p = (k · share + 1) / (k + K): logits (B, K), labels (B,) to a scalar.

        Nothing is trained on it. One vote more for each class (Laplace) keeps it finite where the true class has none.
        """
        shares = logits.softmax(1).gather(1, labels[:, None])
        return -((self.k * shares + 1) / (self.k + self.num_classes)).log().mean()

    def on_validation_start(self) -> None:
        self._check_memory()

    def on_test_start(self) -> None:
        self._check_memory()

    def on_predict_start(self) -> None:
        self._check_memory()

    def _check_memory(self) -> None:
        self._search = None  # the memory may have moved to another device, or have been loaded
        self.neighbors(self.images[:1], min(self.k_max, max(len(self.images), 1)))

    def validation_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        """Counts the batch for all k and returns the logits (B, K) of `k`, for callbacks."""
        shares, winners = self.votes_by_k(batch[0])
        self.correct_by_k.update(winners == batch[1][:, None])
        return self._count_evaluation_batch(self._logits(shares, winners), batch[1])

    def test_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        """Counts the batch for all k and returns the logits (B, K) of `k`, for callbacks."""
        return self.validation_step(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        self._log_accuracy_by_k("val")

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        self._log_accuracy_by_k("test")

    def _log_accuracy_by_k(self, split: str) -> None:
        self.accuracy_by_k: Tensor = self.correct_by_k.compute()  # (k_max,)
        self.correct_by_k.reset()
        self.log_dict({f"{split}/accuracy/k={k}": self.accuracy_by_k[k - 1] for k in self.report_k})

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in ("images", "labels"):  # how large they are, and whether pixels or floats, the checkpoint knows
            if (stored := state_dict.get(prefix + name)) is not None:
                setattr(self, name, torch.empty_like(stored, device=getattr(self, name).device))
        self._search = None
        super()._load_from_state_dict(state_dict, prefix, *rest)

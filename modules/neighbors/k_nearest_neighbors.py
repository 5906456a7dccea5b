"""k-nearest neighbors: training memorizes all images, and an image gets the class of most of its k nearest neighbors.

    l1      d(q, m) = Σ |q_d − m_d|
    l2      d(q, m) = ‖q − m‖ = √(‖q‖² − 2 q·m + ‖m‖²)
    cosine  d(q, m) = 1 − q·m / (‖q‖ ‖m‖)

`find_neighbors` below is the search in plain PyTorch. The classifier calls `NearestNeighbors` (`nearest_neighbors.py`),
which finds the same neighbors faster and in less memory. How they vote is in `votes.py`.

Source: T. Cover, P. Hart, "Nearest neighbor pattern classification", IEEE Transactions on Information Theory, 1967;
https://cs231n.github.io/classification/#k-nearest-neighbor-classifier

    python -m pipelines.train fit --config knn

Shapes: B images in a batch (queries), N memorized images, D values of one image, K classes, k neighbors.
"""

from typing import Any, ClassVar, Protocol, get_args, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.errors import UserError
from common.messages.counting import count
from common.ranges import check_range
from modules.base.classifier import Classifier, ImageBatch
from modules.neighbors.nearest_neighbors import Metric, NearestNeighbors
from modules.neighbors.votes import CorrectByK, Weights, votes

_SMOOTHING = 1e-6  # fraction of the votes that is added to every class in the logits, and once more to the winner


def find_neighbors(queries: Tensor, memory: Tensor, k: int, metric: Metric = "l2") -> tuple[Tensor, Tensor]:
    """Finds the k nearest memorized vectors of each query by computing all distances.

    `topk` may return any of several neighbors at equal distance; `NearestNeighbors` returns those with the lowest
    indices.

    Args:
        queries: Vectors (B, D).
        memory: Memorized vectors (N, D).
        k: Number of neighbors, in [1, N].
        metric: Distance: l1, l2 or cosine.

    Returns:
        Distances (B, k) float64, ascending, and indices into the memory (B, k) int64.
    """
    queries, memory = queries.double(), memory.double()  # exact for pixels
    if metric == "l1":
        distances = torch.cdist(queries, memory, p=1)
    elif metric == "l2":
        squared = queries.square().sum(1, keepdim=True) - 2 * queries @ memory.mT + memory.square().sum(1)
        distances = squared.clamp(min=0).sqrt()  # (B, N)
    else:
        distances = 1 - F.normalize(queries) @ F.normalize(memory).mT
    nearest, indices = distances.topk(k, largest=False)
    return nearest, indices


@runtime_checkable
class HasTrainingImages(Protocol):
    """A data module that returns its whole training split at once."""

    def training_images(self) -> tuple[Tensor, Tensor]:
        """Returns images (N, C, H, W), preprocessed as for the model, and labels (N,) int64."""


class KNearestNeighbors(Classifier):
    """Classifies an image by the majority class among its k nearest memorized images.

    Logs the accuracy of `k` as `val/accuracy` and that of each k in `report_k` as `val/accuracy/k=3`.

    Args:
        input_shape: Shape of one image.
        num_classes: Number of classes K, ≥ 2.
        k: Number of neighbors that vote, ≥ 1.
        metric: Distance between images: l1, l2 or cosine.
        weights: Weight of a neighbor's vote: majority (1) or distance (1 / distance).
        report_k: Further numbers of neighbors whose accuracy is logged, each ≥ 1.
        k_max: Largest k whose accuracy is computed, ≥ 1; raised to `k` and `report_k` if it is smaller.
        memory_limit: Bytes of distances held at a time, ≥ 1.

    Raises:
        ValueError: If a value is out of its range.
    """

    takes_pixels: ClassVar[bool] = True
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
            check_range(name, value, value >= 1, "at least 1")
        check_range("memory_limit", memory_limit, memory_limit >= 1, "at least 1 byte, such as 2**28")
        for name, choice, accepted in (("metric", metric, get_args(Metric)), ("weights", weights, get_args(Weights))):
            check_range(name, repr(choice), choice in accepted, f"one of {', '.join(accepted)}")
        self.save_hyperparameters(logger=False)
        self.k, self.metric, self.weights, self.memory_limit = k, metric, weights, memory_limit
        self.report_k = list(report_k or [])
        self.k_max = max(k, k_max, *self.report_k)
        self.register_buffer("images", torch.empty(0, *input_shape, dtype=torch.uint8))
        self.register_buffer("labels", torch.empty(0, dtype=torch.int64))
        # Lightning saves a checkpoint only after an optimizer step, and an optimizer needs a parameter.
        self.unused = nn.Parameter(torch.zeros(()), requires_grad=False)
        self.automatic_optimization = False
        self.correct_by_k = CorrectByK(self.k_max)
        self._search: NearestNeighbors | None = None

    def memorize(self, images: Tensor, labels: Tensor) -> None:
        """Memorizes images (N, *input_shape), uint8 pixels or floats, and labels (N,), in place of earlier ones.

        Raises:
            ValueError: If there are fewer images than neighbors, or not one label for each image.
        """
        if len(images) != len(labels):
            raise UserError(
                f"There are {count(len(images), 'image')} and {count(len(labels), 'label')}; give one label for "
                "each image."
            )
        if self.k_max > len(images):
            raise UserError(
                f"The largest of k, report_k and k_max is {self.k_max}, but there are {count(len(images), 'image')} to "
                f"memorize; set each to at most {len(images)}."
            )
        self.images, self.labels = images.to(self.images.device), labels.to(self.labels.device)
        self._search = None

    def setup(self, stage: str) -> None:
        if stage != "fit":
            return
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, HasTrainingImages):
            raise UserError(
                f"{type(self).__name__} memorizes the whole training split, not batches of it; train it on a data "
                "module with training_images(), such as CIFAR10."
            )
        self.memorize(*data.training_images())
        self.unused.requires_grad_(True)  # DDP refuses a module without a trainable parameter

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([self.unused], lr=0.0)

    def training_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        """Takes an optimizer step that changes nothing; `setup` has memorized all images."""
        optimizer: Any = self.optimizers()
        loss = 0 * self.unused
        self.manual_backward(loss)
        optimizer.step()
        return loss.detach()

    def on_fit_end(self) -> None:
        self.unused.requires_grad_(False)

    def on_train_batch_end(self, outputs: Any, batch: ImageBatch, batch_idx: int) -> None:
        """Logs nothing: there are no training metrics."""

    def neighbors(self, images: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Finds the k nearest memorized images of each image (B, *input_shape), nearest first.

        Returns:
            Distances (B, k) float64 and indices into `images` and `labels`, (B, k) int64.

        Raises:
            ValueError: If no images are memorized, k is above N, or the images have another shape or type than the
                memorized ones or contain a zero image under cosine.
        """
        if not len(self.images):
            raise UserError("No images are memorized yet; run fit first, or give the checkpoint of a run.")
        if self._search is None:
            self._search = NearestNeighbors(self.images, self.metric, self.memory_limit)
        return self._search.search(images, k)

    def votes_by_k(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Vote shares and winners for all k: images (B, *input_shape) to (B, k_max, K) float64 and (B, k_max) int64."""
        distances, indices = self.neighbors(images, self.k_max)
        return votes(distances, self.labels[indices], self.num_classes, self.weights)

    @torch.no_grad()  # votes are piecewise constant, so there is no gradient
    def forward(self, images: Tensor) -> Tensor:
        """Logarithm of the vote shares, (B, K); uniform before any images are memorized."""
        if not len(self.images):
            return images.new_zeros(len(images), self.num_classes, dtype=torch.float32)
        return self._logits(*self.votes_by_k(images))

    def _logits(self, shares: Tensor, winners: Tensor) -> Tensor:
        shares, winner = shares[:, self.k - 1], winners[:, self.k - 1, None]
        # Avoids the logarithm of 0, and gives the winner the largest of several equal shares.
        smoothed = (shares + _SMOOTHING).scatter_add(1, winner, torch.full_like(shares[:, :1], _SMOOTHING))
        return (smoothed / smoothed.sum(1, keepdim=True)).log().float()

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean of −ln p of the true class, p = (k · share + 1) / (k + K): logits (B, K), labels (B,) to a scalar.

        It is only logged. One additional vote for each class (Laplace smoothing) keeps it finite if the true class has
        none.
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
        self._search = None  # the memory may have been moved to another device, or loaded
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

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of the metrics that validation logs."""
        return ("val/loss", "val/accuracy", *(f"val/accuracy/k={k}" for k in self.report_k))

    def _log_accuracy_by_k(self, split: str) -> None:
        self.accuracy_by_k: Tensor = self.correct_by_k.compute()  # (k_max,)
        self.correct_by_k.reset()
        self.log_dict({f"{split}/accuracy/k={k}": self.accuracy_by_k[k - 1] for k in self.report_k})

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name in ("images", "labels"):  # take size and type from the checkpoint
            if (stored := state_dict.get(prefix + name)) is not None:
                setattr(self, name, torch.empty_like(stored, device=getattr(self, name).device))
        self._search = None
        super()._load_from_state_dict(state_dict, prefix, *rest)

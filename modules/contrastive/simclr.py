"""SimCLR: self-supervised features, trained to match two views of an image among the views of all other images.

    image ─ two random views x, x'        the data module's setting `two_views`
    h = encoder(x)                        the features
    z = projection(h)                     affine – batch norm – ReLU – affine, discarded after pretraining
    loss = NT-Xent(z, z')                 `nt_xent.py`

Validation evaluates the features by weighted kNN: each of the k training images with the highest cosine similarity s
votes for its class with weight exp(s / τ). No labels are used in training, and validation images neither train nor
vote. `linear_probe.py` trains a classifier on the features.

Two metrics show a collapse, in which all images get the same features: alignment, the mean ‖z − z'‖² of positive pairs,
and uniformity, ln of the mean exp(−2 ‖z_i − z_j‖²) over other pairs, both on unit vectors; in a collapse uniformity
rises to 0. For features it is `val/feature_std`, √F times the mean standard deviation of the F values of unit vectors,
that falls to 0.

Sources: T. Chen et al., arXiv 2002.05709; Z. Wu et al., arXiv 1805.01978 for the kNN; T. Wang, P. Isola, arXiv
2005.10242 for alignment and uniformity.

    python -m pipelines.train fit --config simclr

Shapes: B images in a batch, C channels, H×W pixels, F features, D values of a projection, N memorized images, K
classes.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassConfusionMatrix
from torchmetrics.utilities.distributed import gather_all_tensors

from common.errors import UserError
from common.ranges import check_range
from modules.base.buffered_metrics import BufferedMetrics
from modules.contrastive.nt_xent import NTXent
from modules.neighbors.k_nearest_neighbors import HasTrainingImages
from modules.neighbors.nearest_neighbors import NearestNeighbors
from modules.neighbors.votes import similarity_votes
from modules.networks.backbones import create_encoder
from modules.optimizers.lr_scaling import Scaling, check_scaling, scale_learning_rates

_CHUNK = 500  # images whose features are computed at a time


class SimCLR(BufferedMetrics):
    """Pretrains an encoder on pairs of views; logs alignment, uniformity and `val/knn_accuracy`.

    Args:
        input_shape: Shape (C, H, W) of the images.
        num_classes: Number of classes K of the kNN evaluation, ≥ 2.
        backbone: Name of the encoder in timm, such as resnet18.
        small_stem: Replace the first convolution and pooling, which would quarter the size, by one with stride 1.
        options: Further arguments of timm.create_model, such as {channels: [32, 64, 128, 256]}.
        temperature: Temperature of NT-Xent, > 0.
        hidden: Width of the projection's hidden layer, ≥ 1.
        projection: Dimension D of the projection, ≥ 1.
        lr_scaling: Scaling of the learning rate, given for 256 images, with the global batch: none, linear or sqrt.
        knn: Number of neighbors k that vote, ≥ 1.
        knn_temperature: Temperature τ of the votes, > 0.
        knn_memory: Number of training images that vote, drawn once, ≥ k; None takes all.

    Raises:
        ValueError: If a value is out of its range or the encoder can't be created.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_classes: int,
        backbone: str = "resnet18",
        small_stem: bool = True,
        options: dict[str, Any] | None = None,
        temperature: float = 0.5,
        hidden: int = 512,
        projection: int = 128,
        lr_scaling: Scaling = "sqrt",
        knn: int = 200,
        knn_temperature: float = 0.1,
        knn_memory: int | None = None,
    ) -> None:
        super().__init__()
        check_range("num_classes", num_classes, num_classes >= 2, "at least 2")
        check_range("hidden", hidden, hidden >= 1, "at least 1")
        check_range("projection", projection, projection >= 1, "at least 1")
        check_range("knn", knn, knn >= 1, "at least 1")
        check_range("knn_memory", knn_memory, knn_memory is None or knn_memory >= knn, f"at least knn, {knn}")
        check_range("knn_temperature", knn_temperature, knn_temperature > 0, "> 0, such as 0.1")
        check_scaling(lr_scaling)
        self.save_hyperparameters(logger=False)
        self.encoder, width = create_encoder(input_shape, backbone, small_stem, options)
        self.projector = nn.Sequential(
            nn.Linear(width, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, projection)
        )
        self.nt_xent = NTXent(temperature)
        self.num_classes, self.lr_scaling = num_classes, lr_scaling
        self.knn, self.knn_temperature, self.knn_memory = knn, knn_temperature, knn_memory
        self.confusion = MulticlassConfusionMatrix(num_classes, validate_args=False)
        self.images, self.labels = torch.empty(0), torch.empty(0)  # (N, C, H, W), (N,) that vote; not in the checkpoint
        self._search: NearestNeighbors | None = None
        self.example_input_array = torch.zeros(2, *input_shape)

    def features(self, images: Tensor) -> Tensor:
        """Returns features (B, F) of images (B, C, H, W)."""
        features: Tensor = self.encoder(images.contiguous(memory_format=torch.channels_last))
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Returns features (B, F) of images (B, C, H, W)."""
        return self.features(images)

    def on_fit_start(self) -> None:
        if self.device.type == "cpu" and any(isinstance(layer, nn.SyncBatchNorm) for layer in self.modules()):
            raise UserError(
                "torch synchronizes batch norm on GPUs only; set trainer.sync_batchnorm to false, and each process "
                "normalizes its own images."
            )
        scale_learning_rates(self.trainer, self.lr_scaling)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Returns the loss of views (B, 2, C, H, W); the labels are not used."""
        views = batch[0]
        if views.ndim != 5 or views.shape[1] != 2:
            raise UserError(
                "SimCLR learns from two views of each image, (B, 2, C, H, W), but got a batch of "
                f"{tuple(views.shape)}; set data.two_views to {{}}."
            )
        # One pass for both views, so that they share the statistics of batch norm.
        projections = self.projector(self.features(views.transpose(0, 1).flatten(0, 1)))  # (2B, D)
        first, second = projections.split(len(views))
        loss: Tensor = self.nt_xent(first, second)
        self._count(loss.detach(), first.detach().float(), second.detach().float())
        return loss

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of the metrics that training and validation log."""
        return ("train/loss", "train/alignment", "train/uniformity", "val/feature_std", "val/knn_accuracy")

    def _count(self, loss: Tensor, first: Tensor, second: Tensor) -> None:
        first, second = (nn.functional.normalize(z) for z in (first, second))
        images = len(first)
        alignment = (first - second).square().sum(1).mean()
        uniformity = torch.pdist(first).square().mul(-2).exp().mean().log() if images > 1 else torch.zeros_like(loss)
        metrics = {"loss": loss, "alignment": alignment, "uniformity": uniformity}
        self.count_training_batch(images, **{name: images * metric for name, metric in metrics.items()})

    def neighbors(self, images: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Finds the memorized images whose features are nearest to those of images (B, C, H, W), nearest first.

        Returns:
            Cosine distances (B, k) float64 and indices into `images` and `labels`, (B, k) int64.

        Raises:
            ValueError: If nothing is memorized yet, k is above N, or features are all zeros.
        """
        if self._search is None:
            raise UserError("No images are memorized yet; validate or test first.")
        return self._search.search(self.features(images).float(), k)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        trainer: Any = self.trainer  # some of its attributes are unknown to mypy
        if self.global_step % (trainer.log_every_n_steps or 50) == 0:
            self.nt_xent.check_lengths()
        super().on_train_batch_end(outputs, batch, batch_idx)

    def on_train_end(self) -> None:
        self.nt_xent.check_lengths()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.nt_xent.check_lengths()  # before the last good checkpoint is overwritten
        super().on_save_checkpoint(checkpoint)

    def on_validation_epoch_start(self) -> None:
        self.nt_xent.check_lengths()
        self._memorize()
        self.log("val/feature_std", self.feature_std)

    def on_test_epoch_start(self) -> None:
        self._memorize()

    def on_predict_epoch_start(self) -> None:
        self._memorize()

    def _memorize(self) -> None:
        """Computes the features of the memorized images with the current encoder; each rank computes its part."""
        trainer: Any = self.trainer
        if not len(self.images):
            self._read_images(trainer.datamodule)
        self.images, self.labels = self.images.to(self.device), self.labels.to(self.device)
        part_of_rank = self.images.tensor_split(trainer.world_size)[trainer.global_rank]
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            features = torch.cat([self.features(part).float() for part in part_of_rank.split(_CHUNK)])
        if trainer.world_size > 1:
            features = torch.cat(gather_all_tensors(features))
        self.feature_std = nn.functional.normalize(features).std(0).mean() * features.shape[1] ** 0.5
        self._search = NearestNeighbors(features, "cosine")

    def _read_images(self, data: Any) -> None:
        if not isinstance(data, HasTrainingImages):
            raise UserError(
                f"{type(self).__name__} evaluates by kNN over the training images; train it on a data module with "
                "training_images(), such as CIFAR10."
            )
        data.setup("fit")  # type: ignore[attr-defined]  # `test` alone has not read them
        images, labels = data.training_images()
        if self.knn > len(images):
            raise UserError(
                f"knn is {self.knn} and knn_memory is {self.knn_memory}, but there are {len(images)} training images; "
                f"use at most {len(images)} neighbors."
            )
        if self.knn_memory is not None and self.knn_memory < len(images):
            chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[: self.knn_memory]
            images, labels = images[chosen], labels[chosen]
        self.images, self.labels = images, labels

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Counts the batch and returns the votes as fractions (B, K), for callbacks."""
        votes = self._votes(batch[0])
        self.confusion.update(votes, batch[1])
        return votes

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Counts the batch and returns the votes as fractions (B, K), for callbacks."""
        return self.validation_step(batch, batch_idx)

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Returns the votes of the kNN as fractions (B, K)."""
        return self._votes(batch[0]).float()

    def _votes(self, images: Tensor) -> Tensor:
        distances, indices = self.neighbors(images, self.knn)
        return similarity_votes(distances, self.labels[indices], self.num_classes, self.knn_temperature)

    def on_validation_epoch_end(self) -> None:
        self.log("val/knn_accuracy", self._accuracy(), prog_bar=True)

    def on_test_epoch_end(self) -> None:
        self.log_dict({"test/knn_accuracy": self._accuracy(), "test/images": self.confusion_matrix.sum().double()})

    def _accuracy(self) -> Tensor:
        """Returns the accuracy over all processes and resets it."""
        self.confusion_matrix: Tensor = self.confusion.compute()  # (K, K), rows the true classes
        self.confusion.reset()
        return self.confusion_matrix.trace() / self.confusion_matrix.sum().double()

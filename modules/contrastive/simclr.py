"""SimCLR: features learned without labels, by telling two views of one image from the views of all others.

    image ─ two random views x, x'        made by the data: `two_views`
    h = encoder(x)                        the features that are kept
    z = projection(h)                     affine – batch norm – ReLU – affine, thrown away after the pretraining
    loss = NT-Xent(z, z')                 `nt_xent.py`

What the features are worth is seen by weighted kNN: of the k nearest training images, by the cosine s of their
features, each votes for its class with exp(s / τ). Nothing is trained on labels, and validation images are neither
trained on nor voted with. `linear_probe.py` trains a classifier on the features.

Two figures tell a collapse, where all images come to one point: alignment, mean ‖z − z'‖² of the pairs, and uniformity,
ln of the mean exp(−2 ‖z_i − z_j‖²) of the others, both on unit vectors; uniformity rises to 0. On features, it is
`val/feature_std`, the mean standard deviation of the F values of unit vectors times √F, that falls to 0.

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
from modules.base.buffered_metrics import BufferedMetrics
from modules.contrastive.nt_xent import NTXent
from modules.neighbors.k_nearest_neighbors import HasTrainingImages
from modules.neighbors.nearest_neighbors import NearestNeighbors
from modules.neighbors.votes import similarity_votes
from modules.networks.backbones import create_encoder
from modules.optimizers.lr_scaling import Scaling, check_scaling, scale_learning_rates

_CHUNK = 500  # images whose features are computed at a time


class SimCLR(BufferedMetrics):
    """Pretrains an encoder on pairs of views; logs the training figures above and `val/knn_accuracy`.

    Args:
        input_shape: (C, H, W) of the images.
        num_classes: K, at least 2; the votes of the kNN are counted by it.
        backbone: Name of the encoder in timm, such as resnet18.
        small_stem: keep small images from being shrunk at once, as in `backbones.py`.
        options: further arguments of timm.create_model, such as {channels: [32, 64, 128, 256]}.
        temperature: of NT-Xent, above 0.
        hidden: values of the projection's inner layer, at least 1.
        projection: D, at least 1.
        lr_scaling: how the learning rate, given for 256 images, grows with the global batch: none, linear or sqrt.
        knn: k, neighbors that vote, at least 1.
        knn_temperature: τ of the votes, above 0.
        knn_memory: vote with so many training images at most, drawn once, at least k; None takes all.

    Raises:
        ValueError: a value out of the range given above, or an encoder that can't be made.
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
        if num_classes < 2:
            raise UserError(f"num_classes is {num_classes}; give at least 2.")
        if hidden < 1 or projection < 1:
            raise UserError(f"hidden is {hidden} and projection is {projection}; give at least 1 for each.")
        if knn < 1 or (knn_memory is not None and knn_memory < knn):
            raise UserError(f"knn is {knn} and knn_memory is {knn_memory}; give 1 or more neighbors, all in memory.")
        if not knn_temperature > 0:
            raise UserError(f"knn_temperature is {knn_temperature}; give a number above 0, such as 0.1.")
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
        self.images, self.labels = torch.empty(0), torch.empty(0)  # memorized: (N, C, H, W), (N,); in no checkpoint
        self._search: NearestNeighbors | None = None
        self.example_input_array = torch.zeros(2, *input_shape)

    def features(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to features (B, F)."""
        features: Tensor = self.encoder(images.contiguous(memory_format=torch.channels_last))
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to features (B, F)."""
        return self.features(images)

    def on_fit_start(self) -> None:
        if self.device.type == "cpu" and any(isinstance(layer, nn.SyncBatchNorm) for layer in self.modules()):
            raise UserError(
                "torch synchronizes batch norm on GPUs alone; give --trainer.sync_batchnorm false, and each process "
                "normalizes by its own images."
            )
        scale_learning_rates(self.trainer, self.lr_scaling)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Views (B, 2, C, H, W) to the loss; the labels are not looked at."""
        views = batch[0]
        if views.ndim != 5 or views.shape[1] != 2:
            raise UserError(
                "SimCLR learns from two views of each image, (B, 2, C, H, W), but got a batch of "
                f"{tuple(views.shape)}; give --data.two_views {{}}."
            )
        # One pass for both, so that batch norm sees no difference between first and second views.
        projections = self.projector(self.features(views.transpose(0, 1).flatten(0, 1)))  # (2B, D)
        first, second = projections.split(len(views))
        loss: Tensor = self.nt_xent(first, second)
        self._count(loss.detach(), first.detach().float(), second.detach().float())
        return loss

    def _count(self, loss: Tensor, first: Tensor, second: Tensor) -> None:
        first, second = (nn.functional.normalize(z) for z in (first, second))
        images = len(first)
        alignment = (first - second).square().sum(1).mean()
        uniformity = torch.pdist(first).square().mul(-2).exp().mean().log() if images > 1 else torch.zeros_like(loss)
        figures = {"loss": loss, "alignment": alignment, "uniformity": uniformity}
        self.count_training_batch(images, **{name: images * figure for name, figure in figures.items()})

    def neighbors(self, images: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The memorized images whose features are nearest to those of images (B, C, H, W), nearest first.

        Returns:
            Cosine distances (B, k) float64 and places in `images` and `labels`, (B, k) int64.

        Raises:
            ValueError: nothing memorized yet, k above N, or features that are all zeros.
        """
        if self._search is None:
            raise UserError("No images are memorized yet; validate or test first.")
        return self._search.search(self.features(images).float(), k)

    def on_validation_epoch_start(self) -> None:
        self._memorize()
        self.log("val/feature_std", self.feature_std)

    def on_test_epoch_start(self) -> None:
        self._memorize()

    def on_predict_epoch_start(self) -> None:
        self._memorize()

    def _memorize(self) -> None:
        """Features of the memorized images, as the encoder makes them now; each process computes its share of them."""
        trainer: Any = self.trainer
        if not len(self.images):
            self._read_images(trainer.datamodule)
        self.images, self.labels = self.images.to(self.device), self.labels.to(self.device)
        mine = self.images.tensor_split(trainer.world_size)[trainer.global_rank]
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            features = torch.cat([self.features(part).float() for part in mine.split(_CHUNK)])
        if trainer.world_size > 1:
            features = torch.cat(gather_all_tensors(features))
        self.feature_std = nn.functional.normalize(features).std(0).mean() * features.shape[1] ** 0.5
        self._search = NearestNeighbors(features, "cosine")

    def _read_images(self, data: Any) -> None:
        if not isinstance(data, HasTrainingImages):
            raise UserError(
                f"{type(self).__name__} votes with the training images, which batches don't show; train it on a "
                "datamodule with training_images(), such as CIFAR10."
            )
        data.setup("fit")  # type: ignore[attr-defined]  # a run that tests alone has not read them
        images, labels = data.training_images()
        if self.knn > len(images):
            raise UserError(
                f"knn is {self.knn} and knn_memory is {self.knn_memory}, but there are {len(images)} training images; "
                f"give at most {len(images)} neighbors."
            )
        if self.knn_memory is not None and self.knn_memory < len(images):
            chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[: self.knn_memory]
            images, labels = images[chosen], labels[chosen]
        self.images, self.labels = images, labels

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Counts the batch and returns the shares of its votes (B, K), for callbacks."""
        shares = self._votes(batch[0])
        self.confusion.update(shares, batch[1])
        return shares

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Counts the batch and returns the shares of its votes (B, K), for callbacks."""
        return self.validation_step(batch, batch_idx)

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Shares of the votes of the kNN, (B, K)."""
        return self._votes(batch[0]).float()

    def _votes(self, images: Tensor) -> Tensor:
        distances, places = self.neighbors(images, self.knn)
        return similarity_votes(distances, self.labels[places], self.num_classes, self.knn_temperature)

    def on_validation_epoch_end(self) -> None:
        self.log("val/knn_accuracy", self._accuracy(), prog_bar=True)

    def on_test_epoch_end(self) -> None:
        self.log_dict({"test/knn_accuracy": self._accuracy(), "test/images": self.confusion_matrix.sum().double()})

    def _accuracy(self) -> Tensor:
        """Over all processes; starts counting anew."""
        self.confusion_matrix: Tensor = self.confusion.compute()  # (K, K), rows the true classes
        self.confusion.reset()
        return self.confusion_matrix.trace() / self.confusion_matrix.sum().double()

"""SimCLR: loss on real batches, kNN against a loop, metrics of collapse, contents of a checkpoint, refusals."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from datamodules import Digits
from datamodules.images.two_views import TwoViews
from modules import SimCLR
from modules.contrastive.nt_xent import NTXent
from modules.neighbors.votes import similarity_votes
from tests.helpers import trainer_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning:lightning")

SMALL: dict[str, Any] = {
    "backbone": "test_resnet",
    "options": {"channels": [8, 8, 16, 16]},
    "hidden": 16,
    "projection": 8,
}


def simclr(shape: tuple[int, ...] = (3, 16, 16), **settings: Any) -> SimCLR:
    torch.manual_seed(0)
    return SimCLR(shape, 10, **{**SMALL, "knn": 5, **settings})


def digits(**settings: Any) -> Digits:
    return Digits(batch_size=64, two_views=TwoViews(flip=False, jitter=0.3), **settings)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[SimCLR, Digits, dict[str, float]]:
    data = digits()
    model = simclr(data.input_shape, knn_memory=300)
    trainer = trainer_of(tmp_path_factory.mktemp("run"), max_epochs=3, log_every_n_steps=1, num_sanity_val_steps=0)
    trainer.fit(model, data)
    return model, data, {name: float(value) for name, value in trainer.callback_metrics.items()}


def test_a_step_is_nt_xent_of_both_views_projections(tmp_path: Path) -> None:
    """The batch norm of the projection is taken over both views, and gradients reach the first layer."""
    model = simclr()
    model._trainer = trainer_of(tmp_path, max_epochs=1)
    views = torch.randn(6, 2, 3, 16, 16)
    loss = model.training_step((views, torch.zeros(6)), 0)
    both = model.projector(model.encoder(torch.cat([views[:, 0], views[:, 1]])))
    torch.testing.assert_close(loss, NTXent(0.5)(both[:6], both[6:]))
    loss.backward()
    for name, parameter in model.named_parameters():
        # timm initializes each block's last scale to 0, so layers before it have no gradient in the first step
        assert parameter.grad is not None, name
        if "projector" in name or "conv1.0" in name:
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(
    ("settings", "step"),
    [
        ({"log_every_n_steps": 2}, 2),
        ({"limit_train_batches": 3}, 3),  # before validation
        ({"max_steps": 3, "limit_val_batches": 0}, 3),  # at the end
    ],
)
def test_a_collapse_stops_training(settings: dict[str, Any], step: int, tmp_path: Path) -> None:
    data = digits()
    model = simclr(data.input_shape)
    with torch.no_grad():
        for parameter in model.projector[-1].parameters():
            parameter.zero_()
    trainer = trainer_of(tmp_path, **settings)
    with pytest.raises(ValueError, match=r"^128 of 128 projections have length 0.* use a smaller learning rate"):
        trainer.fit(model, data)
    assert trainer.global_step == step
    model.nt_xent(torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"^4 of 4 projections"):
        model.on_save_checkpoint({})


def test_metrics_of_collapse_equal_their_formulas(tmp_path: Path) -> None:
    model = simclr()
    first, second = torch.randn(2, 7, 8)
    model._count(torch.tensor(1.5), first, second)
    a, b = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (first.double().numpy(), second.double().numpy()))
    alignment = np.mean([np.sum((x - y) ** 2) for x, y in zip(a, b, strict=True)])
    others = [math.exp(-2 * np.sum((a[i] - a[j]) ** 2)) for i in range(7) for j in range(7) if i != j]
    means = {name: float(total) / 7 for name, total in model._sums.items()}
    expected = {"loss": 1.5, "alignment": alignment, "uniformity": math.log(np.mean(others))}
    assert means == pytest.approx(expected, rel=1e-5)


def test_votes_equal_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    distances = torch.rand(20, 7, generator=generator).double().sort(1).values
    labels = torch.randint(4, (20, 7), generator=generator)
    shares = similarity_votes(distances, labels, 4, 0.1)
    for row in range(20):
        counts = [0.0] * 4
        for distance, label in zip(distances[row].tolist(), labels[row].tolist(), strict=True):
            counts[label] += math.exp((1 - distance) / 0.1)
        assert shares[row].tolist() == pytest.approx([count / sum(counts) for count in counts])
    assert torch.isfinite(similarity_votes(distances, labels, 4, 1e-4)).all()


def test_knn_accuracy_equals_a_loop_over_the_validation_images(
    trained: tuple[SimCLR, Digits, dict[str, float]],
) -> None:
    model, data, figures = trained
    model.eval()
    with torch.no_grad():
        images, labels = data.training_images()
        memory = {image.numpy().tobytes(): int(label) for image, label in zip(images, labels, strict=True)}
        assert len(model.images) == 300
        assert all(memory[image.numpy().tobytes()] == int(label) for image, label in zip(model.images, model.labels))  # noqa: B905
        keys = model.encoder(model.images).double().numpy()
        true_classes = data.splits["val"][1].tolist()
        queries = model.encoder(data.preprocessing(data.splits["val"][0])).double().numpy()
    correct = 0
    for query, label in zip(queries, true_classes, strict=True):
        cosine = keys @ query / np.linalg.norm(keys, axis=1) / np.linalg.norm(query)
        votes = np.zeros(10)
        for index in np.argsort(-cosine)[:5]:
            votes[int(model.labels[index])] += math.exp(cosine[index] / 0.1)
        correct += int(votes.argmax() == label)
    assert figures["val/knn_accuracy"] == pytest.approx(correct / len(true_classes), abs=1.5 / len(true_classes))
    unit = keys / np.linalg.norm(keys, axis=1, keepdims=True)
    assert figures["val/feature_std"] == pytest.approx(unit.std(0, ddof=1).mean() * keys.shape[1] ** 0.5, rel=1e-4)


def test_it_learns_without_labels(trained: tuple[SimCLR, Digits, dict[str, float]], tmp_path: Path) -> None:
    """Three epochs on Digits: better than the same encoder untrained, and no collapse."""
    _, data, figures = trained
    untrained = simclr(data.input_shape, knn_memory=300)
    before = trainer_of(tmp_path).validate(untrained, data, verbose=False)[0]
    assert figures["val/knn_accuracy"] > before["val/knn_accuracy"]
    assert figures["train/loss"] < math.log(2 * 64 - 1)  # of equal similarities
    assert figures["val/feature_std"] > 0.1 and figures["train/uniformity"] < -0.5


def test_memorized_images_are_not_in_the_checkpoint(trained: tuple[SimCLR, Digits, dict[str, float]]) -> None:
    parts = {name.split(".")[0] for name in trained[0].state_dict()}
    assert parts == {"encoder", "projector"}


def test_the_test_set_is_counted_once_and_training_images_vote(
    trained: tuple[SimCLR, Digits, dict[str, float]], tmp_path: Path
) -> None:
    model, data, _ = trained
    fresh = digits()
    fresh.load_state_dict(data.state_dict())  # as a run that only tests begins
    (figures,) = trainer_of(tmp_path).test(model, fresh, verbose=False)
    assert figures["test/images"] == 360
    assert 0.3 < figures["test/knn_accuracy"] <= 1
    assert int(model.confusion_matrix.sum()) == 360
    model.eval()  # Lightning restores the mode in which it found the model
    with torch.no_grad():
        shares = model.predict_step((fresh.preprocessing(fresh.splits["test"][0]), torch.empty(0)), 0)
    assert (shares.argmax(1) == fresh.splits["test"][1]).double().mean() == pytest.approx(figures["test/knn_accuracy"])
    torch.testing.assert_close(shares.sum(1), torch.ones(360))


def test_single_views_are_refused(tmp_path: Path) -> None:
    data = Digits(batch_size=64)
    with pytest.raises(ValueError, match=r"^SimCLR learns from two views .* got a batch of \(64, 1, 8, 8\); set data"):
        trainer_of(tmp_path, max_epochs=1, num_sanity_val_steps=0).fit(simclr(data.input_shape), data)


def test_all_images_vote_if_there_are_fewer_than_knn_memory(tmp_path: Path) -> None:
    data = digits(subset=30)
    model = simclr(data.input_shape, knn=10, knn_memory=31)
    trainer_of(tmp_path).validate(model, data, verbose=False)
    images, labels = data.training_images()
    assert len(images) == 30
    torch.testing.assert_close(model.images, images)
    torch.testing.assert_close(model.labels, labels)


def test_more_neighbors_than_images_are_refused(tmp_path: Path) -> None:
    data = digits(subset=20)
    with pytest.raises(
        ValueError, match=r"^knn is 50 and knn_memory is None, but there are 20 training images; use at"
    ):
        trainer_of(tmp_path).validate(simclr(data.input_shape, knn=50), data, verbose=False)


def test_synchronized_batch_norm_on_a_cpu_is_refused() -> None:
    model = nn.SyncBatchNorm.convert_sync_batchnorm(simclr())
    with pytest.raises(ValueError, match=r"^torch synchronizes batch norm on GPUs only; set trainer\.sync_batchnorm"):
        model.on_fit_start()


def test_neighbors_need_memorized_images() -> None:
    with pytest.raises(ValueError, match=r"^No images are memorized yet"):
        simclr().neighbors(torch.zeros(1, 3, 16, 16), 1)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"temperature": 0.0}, r"temperature is 0\.0; it must be > 0, such as 0\.5"),
        ({"knn_temperature": -1.0}, r"knn_temperature is -1\.0; it must be > 0"),
        ({"knn": 0}, "knn is 0; it must be at least 1"),
        ({"knn": 9, "knn_memory": 8}, "knn_memory is 8; it must be at least knn, 9"),
        ({"hidden": 0}, "hidden is 0; it must be at least 1"),
        ({"projection": 0}, "projection is 0; it must be at least 1"),
        ({"lr_scaling": "cubic"}, "lr_scaling is 'cubic'; it must be one of none, linear, sqrt"),
        ({"backbone": "resnet_18", "options": None}, "timm has no model 'resnet_18'; did you mean"),
        ({"shape": (64,)}, r"test_resnet takes images \(C, H, W\), but the data has shape \(64,\)"),
    ],
)
def test_refusals(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        simclr(**settings)


def test_forward_gives_features() -> None:
    images: Tensor = torch.randn(4, 3, 16, 16)
    assert simclr()(images).shape == (4, 16)

"""Votes against a loop and scikit-learn; fit, test and checkpoints of the module on handwritten digits."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from datamodules import Digits
from modules.neighbors.k_nearest_neighbors import KNearestNeighbors
from modules.neighbors.votes import Weights, votes
from pipelines.checkpoints.checkpoint_io import check_weights_fit
from tests.helpers import trainer_of


def digits(**settings: Any) -> Digits:
    return Digits(preprocessing="pixels", batch_size=100, **settings)


def fitted(folder: Path, data: Digits, **settings: Any) -> KNearestNeighbors:
    model = KNearestNeighbors(data.input_shape, data.num_classes, **settings)
    trainer_of(folder, max_epochs=1, limit_train_batches=1).fit(model, data)
    return model


def winner_by_loop(distances: list[float], labels: list[int], weights: Weights) -> int:
    """The rule as the docstring of `votes.py` states it."""
    counts: Counter[int] = Counter()
    for distance, label in zip(distances, labels, strict=True):
        if weights == "majority" or 0 in distances:
            counts[label] += int(weights == "majority" or distance == 0)
        else:
            counts[label] += 1 / distance  # type: ignore[assignment]
    most = max(counts.values())
    return next(label for label in labels if counts[label] == most)


@pytest.mark.parametrize("weights", ["majority", "distance"])
def test_winners_of_all_k_equal_a_loop(weights: Weights) -> None:
    generator = torch.Generator().manual_seed(0)
    distances = torch.randint(0, 6, (200, 12), generator=generator).double().sort(1).values
    labels = torch.randint(4, (200, 12), generator=generator)
    shares, winners = votes(distances, labels, 4, weights)
    assert shares.shape == (200, 12, 4)
    torch.testing.assert_close(shares.sum(2), torch.ones(200, 12, dtype=torch.float64))
    for k in range(1, 13):
        expected = [
            winner_by_loop(row_distances, row_labels, weights)
            for row_distances, row_labels in zip(distances[:, :k].tolist(), labels[:, :k].tolist(), strict=True)
        ]
        assert winners[:, k - 1].tolist() == expected


def test_ties_go_to_the_class_whose_nearest_member_is_nearest() -> None:
    distances = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    _, winners = votes(distances, torch.tensor([[2, 0, 0, 2]]), 3, "majority")
    assert winners.tolist() == [[2, 2, 0, 2]]


def test_exact_matches_decide_alone() -> None:
    shares, winners = votes(torch.tensor([[0.0, 0.0, 1e-9]]), torch.tensor([[1, 0, 2]]), 3, "distance")
    assert shares[0].tolist() == [[0, 1, 0], [0.5, 0.5, 0], [0.5, 0.5, 0]]
    assert winners.tolist() == [[1, 1, 1]]


@pytest.mark.parametrize("weights", ["majority", "distance"])
@pytest.mark.parametrize(("metric", "name"), [("l1", "manhattan"), ("l2", "euclidean"), ("cosine", "cosine")])
def test_vote_shares_equal_scikit_learns(weights: Weights, metric: Any, name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    memory = torch.randint(256, (300, 1, 8, 8), generator=generator).to(torch.uint8)
    labels = torch.randint(5, (300,), generator=generator)
    queries = torch.cat([memory[:10], torch.randint(256, (60, 1, 8, 8), generator=generator).to(torch.uint8)])
    if metric == "cosine":  # scikit-learn's distances of exact matches are rounding errors instead of 0
        queries = queries[10:]
    for k in (1, 6, 25):
        model = KNearestNeighbors((1, 8, 8), 5, k, metric, weights)
        model.memorize(memory, labels)
        reference = KNeighborsClassifier(k, weights="uniform" if weights == "majority" else weights, metric=name)
        reference.fit(memory.flatten(1).double().numpy(), labels.numpy())
        expected = torch.from_numpy(reference.predict_proba(queries.flatten(1).double().numpy()))
        distances, _ = model.neighbors(queries, k + 1)
        untied = distances[:, k - 1] < distances[:, k]  # scikit-learn returns any of those at equal distance
        assert untied.double().mean() > 0.9
        shares = model.votes_by_k(queries)[0][:, k - 1]
        torch.testing.assert_close(shares[untied], expected[untied], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(model(queries).exp(), shares.float(), rtol=1e-4, atol=1e-4)
        assert torch.equal(model(queries).argmax(1), model.votes_by_k(queries)[1][:, k - 1])


def test_the_loss_is_the_cross_entropy_of_smoothed_shares() -> None:
    model = KNearestNeighbors((2,), 3, k=4, k_max=4)
    shares = torch.tensor([[0.75, 0.25, 0.0], [0.0, 0.0, 1.0]])
    expected = -torch.tensor([2 / 7, 5 / 7]).log().mean()
    assert model.loss((shares + 1e-9).log(), torch.tensor([1, 2])).item() == pytest.approx(expected.item(), rel=1e-5)


def test_fit_memorizes_the_whole_training_split(tmp_path: Path) -> None:
    data = digits(val_fraction=0.2)
    model = fitted(tmp_path, data, k=3, k_max=5)
    assert torch.equal(model.images, data.splits["train"][0])
    assert torch.equal(model.labels, data.splits["train"][1])
    assert len(model.images) % 100 != 0  # batches would have dropped the rest


@pytest.mark.parametrize("metric", ["l1", "l2", "cosine"])
def test_accuracies_of_all_k_equal_those_of_models_with_this_k(tmp_path: Path, metric: Any) -> None:
    data = digits()
    model = KNearestNeighbors(data.input_shape, 10, k=4, metric=metric, report_k=[1, 9], k_max=12)
    trainer = trainer_of(tmp_path, max_epochs=1)
    trainer.fit(model, data)
    logged = dict(trainer.callback_metrics)
    assert {"val/accuracy", "val/loss", "val/accuracy/k=1", "val/accuracy/k=9"} <= set(logged)
    images, labels = data.splits["val"]
    for k, name in ((4, ""), (1, "/k=1"), (9, "/k=9")):
        single = KNearestNeighbors(data.input_shape, 10, k=k, metric=metric, k_max=1)
        single.memorize(*data.training_images())
        accuracy = (single(images).argmax(1) == labels).double().mean().item()
        assert logged[f"val/accuracy{name}"].item() == pytest.approx(accuracy, abs=1e-6)
        assert model.accuracy_by_k[k - 1].item() == pytest.approx(accuracy, abs=1e-6)
    assert model.accuracy_by_k.shape == (12,)
    assert logged["val/accuracy"] > 0.95


def test_a_checkpoint_contains_the_memory(tmp_path: Path) -> None:
    data = digits()
    model = KNearestNeighbors(data.input_shape, 10, k=3, k_max=10)
    keep = ModelCheckpoint(tmp_path, "best", monitor="val/accuracy", mode="max")
    trainer_of(tmp_path, keep, max_epochs=1, enable_checkpointing=True).fit(model, data)
    file = tmp_path / "best.ckpt"
    stored = torch.load(file, weights_only=True)
    assert stored["global_step"] >= 1
    fresh = KNearestNeighbors(data.input_shape, 10, k=3, k_max=10)
    check_weights_fit(stored, fresh, file)
    [metrics] = trainer_of(tmp_path).test(fresh, data, ckpt_path=str(file), verbose=False)
    assert torch.equal(fresh.images, model.images)
    images, labels = data.splits["test"]
    accuracy = (model(images).argmax(1) == labels).double().mean().item()
    assert metrics["test/accuracy"] == pytest.approx(accuracy, abs=1e-6)
    other = KNearestNeighbors((3, 8, 8), 10)
    with pytest.raises(ValueError, match=r"does not fit: images has shape \(\d+, 1, 8, 8\) in it and \(0, 3, 8, 8\)"):
        check_weights_fit(stored, other, file)


def test_floats_are_memorized_as_floats(tmp_path: Path) -> None:
    data = Digits(preprocessing="standardize")
    model = fitted(tmp_path, data, k_max=5)
    assert model.images.dtype == torch.float32
    fresh = KNearestNeighbors(data.input_shape, 10, k_max=5)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh.images, model.images)


def test_predictions_are_vote_shares(tmp_path: Path) -> None:
    data = digits()
    model = fitted(tmp_path, data, k=4, k_max=4)
    images, labels = data.splits["val"]
    shares = model.votes_by_k(images)[0][:, 3].float()
    torch.testing.assert_close(model.predict_step((images, labels), 0), shares, rtol=0, atol=1e-4)


def test_before_fit_all_classes_are_equally_likely_and_evaluation_is_refused(tmp_path: Path) -> None:
    model = KNearestNeighbors((1, 8, 8), 10)
    assert model(torch.zeros(3, 1, 8, 8, dtype=torch.uint8)).softmax(1).unique().tolist() == pytest.approx([0.1])
    with pytest.raises(ValueError, match=r"^No images are memorized yet; run fit first"):
        trainer_of(tmp_path).test(model, digits(), verbose=False)


def test_loaders_without_a_datamodule_are_refused(tmp_path: Path) -> None:
    loader: DataLoader[tuple[Tensor, ...]] = DataLoader(TensorDataset(torch.rand(9, 2), torch.zeros(9).long()))
    with pytest.raises(ValueError, match=r"^KNearestNeighbors memorizes the whole training split, .* such as CIFAR10"):
        trainer_of(tmp_path, max_epochs=1).fit(KNearestNeighbors((2,), 2), loader)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 0}, "k is 0; it must be at least 1."),
        ({"report_k": [3, 0]}, "report_k is 0; it must be at least 1."),
        ({"k_max": -2}, "k_max is -2; it must be at least 1."),
        ({"metric": "l3"}, "metric is 'l3'; it must be one of l1, l2, cosine."),
        ({"weights": "rank"}, "weights is 'rank'; it must be one of majority, distance."),
        ({"memory_limit": 0}, "memory_limit is 0; it must be at least 1 byte, such as 2**28."),
    ],
)
def test_values_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011  # the whole message is compared below
        KNearestNeighbors((1, 8, 8), 10, **settings)
    assert str(raised.value) == message


def test_more_neighbors_than_images_and_missing_labels_are_refused() -> None:
    images, labels = torch.zeros(7, 1, 8, 8, dtype=torch.uint8), torch.zeros(7, dtype=torch.int64)
    with pytest.raises(
        ValueError,
        match=r"^The largest of k, report_k and k_max is 50, .* 7 images to memorize; set each to at",
    ):
        KNearestNeighbors((1, 8, 8), 10).memorize(images, labels)
    with pytest.raises(ValueError, match=r"^There are 7 images and 6 labels; give one label for each image\.$"):
        KNearestNeighbors((1, 8, 8), 10, k_max=1).memorize(images, labels[:6])

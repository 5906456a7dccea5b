"""What classifiers share: logged figures against independent ones, checkpoints, and five lines without our CLI."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers.logger import Logger
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from datamodules import Digits
from modules import Classifier, LinearSVM, SoftmaxRegression, TimmClassifier
from tests.helpers import trainer_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning:lightning")

CLASSES = 4


class Memory(Logger):
    """Keeps what is logged: (step, metrics)."""

    name, version = "memory", "0"

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int | None, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((step, metrics))

    def log_hyperparams(self, *_: Any, **__: Any) -> None: ...

    def of(self, name: str) -> dict[int | None, float]:
        """Steps and values of one metric."""
        return {step: metrics[name] for step, metrics in self.rows if name in metrics}


class Recording(SoftmaxRegression):
    """Remembers the loss and the predictions of each training batch."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.losses: list[float] = []
        self.hits: list[int] = []
        self.sizes: list[int] = []

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        with torch.no_grad():
            logits = self(batch[0])
            self.losses.append(float(self.loss(logits, batch[1])))
            self.hits.append(int((logits.argmax(1) == batch[1]).sum()))
            self.sizes.append(len(batch[1]))
        return super().training_step(batch, batch_idx)


def random_batches(images: int, batch_size: int, seed: int = 0) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(images, 3, generator=generator)
    labels = torch.randint(CLASSES, (images,), generator=generator)
    return DataLoader(TensorDataset(inputs, labels), batch_size)


def test_five_plain_lines_learn_digits(tmp_path: Path) -> None:
    for topic in (LinearSVM, SoftmaxRegression):
        torch.manual_seed(0)
        data = Digits(batch_size=32)
        model = topic(data.input_shape, data.num_classes)
        trainer = trainer_of(tmp_path, max_epochs=10)
        trainer.fit(model, data)
        accuracy = trainer.test(model, data, verbose=False)[0]["test/accuracy"]
        assert accuracy > 0.9


def test_default_optimizer_is_adam_on_all_parameters() -> None:
    model = LinearSVM((3,), CLASSES)
    optimizer = model.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.param_groups[0]["lr"] == 1e-3
    assert {id(p) for p in optimizer.param_groups[0]["params"]} == {id(p) for p in model.parameters()}


@pytest.mark.parametrize("topic", [LinearSVM, SoftmaxRegression])
def test_a_checkpoint_brings_back_model_and_settings(
    tmp_path: Path, topic: type[LinearSVM] | type[SoftmaxRegression]
) -> None:
    model = topic((3,), CLASSES, reg=0.25, weight_scale=0.5)
    trainer = trainer_of(tmp_path, max_epochs=1)
    trainer.fit(model, random_batches(12, 4))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    loaded = topic.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    images, labels = torch.randn(7, 3), torch.randint(CLASSES, (7,))
    assert loaded.reg == 0.25
    torch.testing.assert_close(loaded(images), model(images), rtol=0, atol=0)
    assert loaded.loss(loaded(images), labels).item() == model.loss(model(images), labels).item()


def test_evaluation_figures_equal_scikit_learn_over_uneven_batches(tmp_path: Path) -> None:
    """23 images in batches of 5: the last batch of 3 must not weigh as much as the others."""
    torch.manual_seed(1)
    model = SoftmaxRegression((3,), CLASSES, reg=0.1, weight_scale=2.0)
    batches = random_batches(23, 5)
    images, labels = batches.dataset[:]
    with torch.no_grad():
        logits = model(images).double()
    predicted = logits.argmax(1)
    loss = log_loss(labels, logits.softmax(1).numpy(), labels=range(CLASSES))
    loss += 0.05 * model.linear.weight.square().sum().item()
    trainer = trainer_of(tmp_path)
    by_class = confusion_matrix(labels, predicted, normalize="true").diagonal()
    for split, figures in (
        ("val", trainer.validate(model, batches, verbose=False)[0]),
        ("test", trainer.test(model, batches, verbose=False)[0]),
    ):
        assert figures[f"{split}/loss"] == pytest.approx(loss, rel=1e-6)
        assert figures[f"{split}/accuracy"] == pytest.approx(accuracy_score(labels, predicted), rel=1e-12)
        np.testing.assert_array_equal(model.confusion_matrix, confusion_matrix(labels, predicted))
        assert [figures[f"{split}/accuracy/{i}"] for i in range(CLASSES)] == pytest.approx(list(by_class), rel=1e-6)
    assert figures["test/images"] == 23


def test_a_class_without_images_has_no_accuracy(tmp_path: Path) -> None:
    images, labels = torch.randn(6, 3), torch.tensor([0, 0, 2, 2, 2, 0])
    model = SoftmaxRegression((3,), CLASSES)
    loader = DataLoader(TensorDataset(images, labels), 6)
    figures = trainer_of(tmp_path).validate(model, loader, verbose=False)[0]
    by_class = {name: value for name, value in figures.items() if name.startswith("val/accuracy/")}
    predicted = model(images).argmax(1)
    expected = {f"val/accuracy/{c}": float((predicted[labels == c] == c).float().mean()) for c in (0, 2)}
    assert by_class == pytest.approx(expected)


def test_test_counts_each_of_the_official_test_images_once(tmp_path: Path) -> None:
    data = Digits(batch_size=100)
    figures = trainer_of(tmp_path).test(SoftmaxRegression(data.input_shape, data.num_classes), data, verbose=False)[0]
    assert figures["test/images"] == 360
    assert {name for name in figures if name.startswith("test/accuracy/")} == {f"test/accuracy/{d}" for d in range(10)}


def test_validation_counts_anew_each_time(tmp_path: Path) -> None:
    model = SoftmaxRegression((3,), CLASSES)
    trainer = trainer_of(tmp_path)
    first, second = (trainer.validate(model, random_batches(10, 4), verbose=False)[0] for _ in range(2))
    assert first == second
    assert int(model.confusion_matrix.sum()) == 10


@pytest.mark.parametrize("accumulate", [1, 2, 3])
@pytest.mark.parametrize("every", [1, 2])
def test_training_figures_are_means_since_the_last_log(tmp_path: Path, accumulate: int, every: int) -> None:
    """22 images in batches of 4 are 6 batches, the last of 2 images; two epochs of them."""
    torch.manual_seed(0)
    model, memory = Recording((3,), CLASSES, weight_scale=1.0), Memory()
    trainer = trainer_of(
        tmp_path, max_epochs=2, logger=memory, log_every_n_steps=every, accumulate_grad_batches=accumulate
    )
    trainer.fit(model, random_batches(22, 4))
    batches = list(zip(model.losses, model.hits, model.sizes, strict=True))
    assert len(batches) == 12
    expected = {}
    length = accumulate * every
    for number, start in enumerate(range(0, len(batches), length), 1):
        window = batches[start : start + length]
        images = sum(size for *_, size in window)
        loss = sum(loss * size for loss, _, size in window) / images
        expected[number * every - 1] = (loss, sum(hit for _, hit, _ in window) / images)
    losses, accuracies = memory.of("train/loss"), memory.of("train/accuracy")
    assert list(losses) == list(accuracies) == list(expected)
    for step, (loss, accuracy) in expected.items():
        assert losses[step] == pytest.approx(loss, rel=1e-6)
        assert accuracies[step] == pytest.approx(accuracy, rel=1e-6)


def test_windows_run_on_from_epoch_to_epoch(tmp_path: Path) -> None:
    """3 batches an epoch and a log every 2 steps: the second log is of one batch of each epoch."""
    model, memory = Recording((3,), CLASSES, weight_scale=1.0), Memory()
    trainer_of(tmp_path, max_epochs=2, logger=memory, log_every_n_steps=2).fit(model, random_batches(12, 4))
    means = [sum(model.losses[i : i + 2]) / 2 for i in (0, 2, 4)]
    assert list(memory.of("train/loss").values()) == pytest.approx(means, rel=1e-6)
    assert list(memory.of("train/loss")) == [1, 3, 5]


def test_training_without_logging(tmp_path: Path) -> None:
    memory = Memory()
    model = Recording((3,), CLASSES)
    trainer_of(tmp_path, max_epochs=1, logger=memory, log_every_n_steps=0).fit(model, random_batches(8, 4))
    assert len(model.losses) == 2
    assert memory.of("train/loss") == {}


def test_probabilities_are_the_softmax_of_the_logits() -> None:
    model = LinearSVM((3,), CLASSES, weight_scale=1.0)
    images = torch.randn(5, 3)
    probabilities = model.predict_step((images, torch.zeros(5)), 0)
    exponentials = np.exp(model(images).detach().double().numpy())
    np.testing.assert_allclose(probabilities.detach(), exponentials / exponentials.sum(1, keepdims=True), rtol=1e-5)


def test_a_classifier_needs_a_loss_but_no_expected_one() -> None:
    class Unfinished(Classifier):
        pass

    class Finished(Unfinished):
        def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
            return torch.nn.functional.cross_entropy(logits, labels)

    with pytest.raises(TypeError, match=r"abstract class Unfinished .*loss"):
        Unfinished(3)  # type: ignore[abstract]
    assert Finished(3).expected_initial_loss() is None


def test_the_command_lines_optimizer_takes_its_place_without_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.run.cli import run
    from pipelines.run.topics import find_config

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    arguments = ["fit", "--config", str(find_config("svm")), "--data", "Digits", "--trainer.max_epochs", "1"]
    arguments += ["--trainer.callbacks=null", "--trainer.accelerator=cpu"]
    arguments += ["--optimizer", "torch.optim.RMSprop", "--optimizer.lr=0.0123", "--lr_scheduler=null"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer = run(arguments, "svm").trainer
    assert isinstance(trainer.optimizers[0], torch.optim.RMSprop)
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.0123
    assert [str(w.message) for w in caught if "overridden" in str(w.message)] == []


@pytest.mark.parametrize("step", range(1, 11))
def test_a_resumed_run_logs_means_over_the_whole_window(tmp_path: Path, step: int) -> None:
    """Windows of 3 steps, interrupted in, at the end of and between them; a DataLoader repeats an epoch's batches."""

    def train(memory: Memory, steps: int, ckpt_path: Path | None = None) -> Any:
        torch.manual_seed(0)
        model = SoftmaxRegression((3,), CLASSES)
        checkpoint = ModelCheckpoint(tmp_path / str(steps), "{step}", every_n_train_steps=1, save_top_k=-1)
        settings: dict[str, Any] = {"enable_checkpointing": True, "log_every_n_steps": 3, "logger": memory}
        trainer = trainer_of(tmp_path, checkpoint, max_steps=steps, **settings)
        trainer.fit(model, random_batches(4, 4), ckpt_path=ckpt_path, weights_only=True)
        return trainer

    whole, first, second = Memory(), Memory(), Memory()
    train(whole, 11)
    train(first, step)
    train(second, 11, tmp_path / str(step) / f"step={step}.ckpt")
    for name in ("train/loss", "train/accuracy"):
        assert {**first.of(name), **second.of(name)} == whole.of(name)
        assert list(whole.of(name)) == [2, 5, 8]


def test_a_checkpoint_that_is_only_tested_changes_no_window(tmp_path: Path) -> None:
    model, memory = SoftmaxRegression((3,), CLASSES), Memory()
    checkpoint = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
    settings: dict[str, Any] = {"enable_checkpointing": True, "log_every_n_steps": 3}
    trainer_of(tmp_path, checkpoint, max_steps=2, **settings).fit(model, random_batches(18, 4))
    fresh = Recording((3,), CLASSES)
    trainer_of(tmp_path).test(fresh, random_batches(18, 4), ckpt_path=tmp_path / "step=2.ckpt", verbose=False)
    trainer_of(tmp_path, max_steps=3, logger=memory, log_every_n_steps=3).fit(fresh, random_batches(18, 4))
    assert memory.of("train/loss") == {2: pytest.approx(np.mean(fresh.losses))}


def test_a_loss_that_is_nan_in_one_batch_is_not_left_out() -> None:
    model = SoftmaxRegression((2,), 3)
    model.validation_step((torch.zeros(4, 2), torch.zeros(4).long()), 0)
    model.validation_step((torch.full((4, 2), torch.nan), torch.zeros(4).long()), 1)
    assert model.eval_loss.compute().isnan()


class WeightedDigits(Digits):
    """Digits whose classes have weights 0 to 9."""

    class_weights = torch.arange(10.0)


@pytest.mark.parametrize("model", [SoftmaxRegression, LinearSVM])
def test_the_training_loss_is_weighted_by_class(tmp_path: Path, model: type[SoftmaxRegression | LinearSVM]) -> None:
    data = WeightedDigits(batch_size=50)
    data.setup("fit")
    network = model(data.input_shape, data.num_classes)
    trainer_of(tmp_path, max_steps=1).fit(network, data)
    images, labels = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    logits = network(images)
    alone = [network.loss(logits[i : i + 1], labels[i : i + 1]) for i in range(50)]
    expected = sum(float(labels[i]) * float(loss) for i, loss in enumerate(alone)) / 50
    assert float(network.training_step((images, labels), 0)) == pytest.approx(expected, rel=1e-5)


def test_weights_of_one_change_nothing_and_mixed_targets_are_weighted_in_proportion() -> None:
    model = SoftmaxRegression((1, 4, 4), CLASSES, reg=0.0)
    logits, labels = torch.randn(6, CLASSES), torch.tensor([0, 1, 2, 3, 0, 1])
    assert float(model.weighted_loss(logits, labels, torch.ones(CLASSES))) == pytest.approx(
        float(model.loss(logits, labels))
    )
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0])
    hard = torch.nn.functional.one_hot(labels, CLASSES).float()
    assert float(model.weighted_loss(logits, hard, weights)) == pytest.approx(
        float(model.weighted_loss(logits, labels, weights))
    )


def test_class_weights_reach_a_timm_network_with_mixup(tmp_path: Path) -> None:
    data = WeightedDigits(batch_size=20)
    network = TimmClassifier((1, 8, 8), 10, "test_resnet", mixup=0.2)
    trainer_of(tmp_path, max_steps=2).fit(network, data)
    assert network._class_weights is not None

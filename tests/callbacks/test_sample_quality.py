"""What SampleQuality logs, against numpy and scipy on the same features, and the classifier that it trains."""

import re
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from callbacks import SampleQuality, reference_classifier
from callbacks.reference_classifier import find_or_train_reference_classifier, read_reference_classifier
from datamodules import Digits
from modules import GAN, ConvNet, SoftmaxRegression

SETTINGS: dict[str, Any] = {
    "generator": "fully_connected", "discriminator": "fully_connected", "latent_size": 4, "generator_width": 4,
    "discriminator_width": 4,
}  # fmt: skip


class Repeats(GAN):
    """Returns images of a fixed set for all latents."""

    images: Tensor

    def sample(self, number: int, generator: torch.Generator | None = None) -> Tensor:
        assert generator is not None
        return self.images[torch.arange(number) % len(self.images)].float() / 255


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a reference classifier in it."""
    folder = tmp_path_factory.mktemp("data")
    images, labels = source(folder).splits["train"]
    reports: list[str] = []
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():  # as in a validation without a training
        patch.setattr(reference_classifier, "_LEAST_STEPS", 300)
        find_or_train_reference_classifier(folder / "Digits", images, labels, reports.append)
    start = "reference classifier for samples, trained once for this data: epoch"
    assert reports and all(line.startswith(start) for line in reports)
    return folder


def source(root: Path, **settings: Any) -> Digits:
    data = Digits(root=str(root), batch_size=300, preprocessing="scale", **settings)
    data.setup("fit")
    data.setup("test")
    return data


def trainer(callback: SampleQuality, folder: Path) -> L.Trainer:
    return L.Trainer(
        accelerator="cpu", devices=1, max_epochs=1, default_root_dir=folder, logger=False, callbacks=[callback],
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip


def test_the_reference_classifier_classifies_unseen_images_and_is_trained_once(root: Path) -> None:
    (file,) = (root / "Digits").iterdir()
    images, labels = source(root).splits["test"]
    features, logits = read_reference_classifier(file)(images.float() / 255)
    assert (logits.argmax(1) == labels).float().mean() > 0.95
    assert features.shape[0] == logits.shape[0] == 360

    def never(text: str) -> None:
        raise AssertionError(text)

    train = source(root).splits["train"]
    again = find_or_train_reference_classifier(root / "Digits", *train, never)
    assert torch.equal(again(images.float() / 255)[1], logits)
    assert [path.name for path in (root / "Digits").iterdir()] == [file.name]
    assert set(torch.load(file, weights_only=True)) == {"state_dict", "hyper_parameters", "data"}


def test_other_training_images_have_another_classifier_and_training_it_leaves_the_random_numbers_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference_classifier, "_LEAST_STEPS", 1)
    monkeypatch.setattr(reference_classifier, "_EPOCHS", 1)
    torch.manual_seed(4)
    state = torch.get_rng_state()
    for size in (50, 60, 50):
        find_or_train_reference_classifier(tmp_path, *source(tmp_path, subset=size).splits["train"], lambda text: None)
    assert len(list(tmp_path.glob("judge-*.ckpt"))) == 2
    assert torch.equal(state, torch.get_rng_state())


def test_features_are_the_inputs_of_the_last_layer(root: Path) -> None:
    classifier = read_reference_classifier(next((root / "Digits").iterdir()))
    features, logits = classifier(torch.rand(5, 1, 8, 8))
    torch.testing.assert_close(classifier.model.output(features), logits)


def test_metrics_of_known_images(root: Path, tmp_path: Path) -> None:
    """The samples are the test images: their FID from these is 0, that from validation images equals the definition."""
    data = source(root)
    model = Repeats((1, 8, 8), **SETTINGS)
    model.images = data.splits["test"][0]
    callback = SampleQuality(num_samples=360, num_test_samples=360)
    run = trainer(callback, tmp_path)
    (val,), (test,) = run.validate(model, data, verbose=False), run.test(model, data, verbose=False)

    classifier = read_reference_classifier(next((root / "Digits").iterdir()))
    (one, logits), (two, _) = (classifier(data.splits[split][0].float() / 255) for split in ("test", "val"))
    first, second = one.double().numpy(), two.double().numpy()
    a, b, difference = np.cov(first, rowvar=False), np.cov(second, rowvar=False), first.mean(0) - second.mean(0)
    fid = difference @ difference + np.trace(a) + np.trace(b) - 2 * np.trace(sqrtm(a @ b)).real
    assert val["val/fid"] == pytest.approx(fid, rel=1e-4)
    assert test["test/fid"] == pytest.approx(0, abs=1e-4)
    q = np.bincount(logits.argmax(1).numpy(), minlength=10) / 360
    for name, split in (("val/kl", "val"), ("test/kl", "test")):
        p = np.bincount(data.splits[split][1].numpy(), minlength=10) / len(data.splits[split][1])
        assert {**val, **test}[name] == pytest.approx((q * np.log(q / p)).sum(), abs=1e-6)
    probabilities = np.exp(logits.double().numpy() - logits.double().logsumexp(1, keepdim=True).numpy())
    for figures, name in ((val, "val/confidence"), (test, "test/confidence")):
        assert figures[name] == pytest.approx(probabilities.max(1).mean(), rel=1e-5)


def test_noise_is_far_and_one_class_alone_has_kl_ln_of_its_share(root: Path, tmp_path: Path) -> None:
    data = source(root)
    model = Repeats((1, 8, 8), **SETTINGS)
    images, labels = data.splits["train"]
    fids = []
    for chosen in (torch.randint(256, (200, 1, 8, 8), dtype=torch.uint8), images[labels == 0], images):
        model.images = chosen
        (figures,) = trainer(SampleQuality(1000), tmp_path).validate(model, data, verbose=False)
        fids.append(figures["val/fid"])
        if len(chosen) == int((labels == 0).sum()):
            share = (data.splits["val"][1] == 0).float().mean().item()
            assert figures["val/kl"] == pytest.approx(-np.log(share), rel=0.02)
            assert figures["val/confidence"] > 0.9
    assert fids[0] > 5 * fids[2] and fids[1] > 5 * fids[2]


def test_evaluating_samples_changes_no_random_number_of_training(root: Path, tmp_path: Path) -> None:
    weights = []
    for callbacks in ([], [SampleQuality(100)]):
        torch.manual_seed(0)
        model = GAN((1, 8, 8), **SETTINGS)
        run: Any = trainer(SampleQuality(100), tmp_path)
        run.callbacks = [callback for callback in run.callbacks if not isinstance(callback, SampleQuality)] + callbacks
        run.fit_loop.max_epochs = 3
        run.fit(model, source(root))
        weights.append(torch.cat([parameter.flatten() for parameter in model.parameters()]))
        assert ("val/fid" in run.callback_metrics) == bool(callbacks)
    assert torch.equal(*weights)


def test_a_given_classifier_is_used(root: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    data, classifier = Digits(root=str(root), batch_size=300), ConvNet((1, 8, 8), 10, [4])
    run = L.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, default_root_dir=tmp_path,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    run.fit(classifier, data)
    run.save_checkpoint(tmp_path / "given.ckpt")
    images = data.splits["val"][0]
    _, logits = read_reference_classifier(tmp_path / "given.ckpt")(images.float() / 255)
    with torch.no_grad():
        expected = classifier.eval()(data.preprocessing(images))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


def test_refusals(root: Path, tmp_path: Path) -> None:
    model = GAN((1, 8, 8), **SETTINGS)
    with pytest.raises(ValueError, match="num_samples is 99; it must be at least 100"):
        SampleQuality(num_samples=99)
    with pytest.raises(ValueError, match="There is no checkpoint at nowhere"):
        trainer(SampleQuality(classifier="nowhere"), tmp_path).validate(model, source(root))
    (tmp_path / "torn.ckpt").write_bytes(next((root / "Digits").iterdir()).read_bytes()[:500])
    with pytest.raises(ValueError, match=r"torn.ckpt is damaged or not a checkpoint of a ConvNet"):
        trainer(SampleQuality(classifier=str(tmp_path / "torn.ckpt")), tmp_path).validate(model, source(root))
    with pytest.raises(ValueError, match=r"SoftmaxRegression generates no images to evaluate; remove callbacks\."):
        trainer(SampleQuality(), tmp_path).validate(SoftmaxRegression((1, 8, 8), 10), source(root))
    with pytest.raises(ValueError, match="holds them in memory, such as MNIST"):
        trainer(SampleQuality(), tmp_path).validate(
            model, torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.zeros(1, 1, 8, 8)))
        )


@pytest.fixture
def short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_classifier, "_LEAST_STEPS", 1)
    monkeypatch.setattr(reference_classifier, "_EPOCHS", 1)


@pytest.mark.usefixtures("short_training")
def test_training_begins_before_the_classifier_is_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []

    class Listen(L.Callback):
        def on_train_batch_end(self, *arguments: Any) -> None:
            said.append(capsys.readouterr().out)

    run = trainer(SampleQuality(100, 100), tmp_path)
    run.callbacks.append(Listen())  # type: ignore[attr-defined]
    run.fit(GAN((1, 8, 8), **SETTINGS), source(tmp_path, subset=600))
    assert said == ["", ""]  # two steps of an epoch
    assert re.search(r"epoch 1 of 1, loss \d\.\d+, 0 s left\n$", capsys.readouterr().out)


@pytest.mark.usefixtures("short_training")
def test_a_damaged_classifier_is_trained_again(tmp_path: Path) -> None:
    images, labels = source(tmp_path, subset=100).splits["train"]
    find_or_train_reference_classifier(tmp_path / "data", images, labels, lambda text: None)
    (file,) = (tmp_path / "data").iterdir()
    whole = file.read_bytes()
    damaged = bytearray(whole)
    damaged[whole.index(b"data/0") + 2000] ^= 64  # in a weight, which torch would load
    file.write_bytes(damaged)
    said: list[str] = []
    find_or_train_reference_classifier(tmp_path / "data", images, labels, said.append)
    assert said[0] == f"{file} is damaged, so the reference classifier is trained again."
    read_reference_classifier(file)


@pytest.mark.usefixtures("short_training")
def test_data_that_may_only_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = source(tmp_path, subset=100).splits["train"]
    (tmp_path / "data").write_text("a file, so that no folder can be made here, whoever runs the tests")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.warns(UserWarning, match=r"data can't be written, so its files are kept in .*lightning-231n/data"):
        find_or_train_reference_classifier(tmp_path / "data", images, labels, lambda text: None)
    (file,) = (tmp_path / "cache" / "lightning-231n" / "data").iterdir()
    read_reference_classifier(file)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "data"))
    said: list[str] = []
    found = find_or_train_reference_classifier(tmp_path / "data", images, labels, said.append)
    assert said[0].startswith("Neither ") and "so each run trains its reference classifier" in said[0]
    kept = read_reference_classifier(file)
    assert all(torch.equal(a, b) for a, b in zip(found.model.parameters(), kept.model.parameters(), strict=True))

"""The fast network against numpy and scipy in float64, and the parts of its recipe in training runs."""

from math import log
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from scipy.signal import correlate2d
from scipy.special import erf
from torch import Tensor, nn

from datamodules import Digits
from modules import FastConvNet
from modules.fast_convnet.fast_convnet import ConvGroup
from modules.fast_convnet.whitening import Whitening

K = 4


def gelu(values: np.ndarray) -> np.ndarray:
    return values * (1 + erf(values / 2**0.5)) / 2


def convolution(maps: np.ndarray, filters: np.ndarray, mode: str) -> np.ndarray:
    return np.stack(
        [[sum(map(lambda p, k: correlate2d(p, k, mode), image, kernel)) for kernel in filters] for image in maps]
    )


def normalized(maps: np.ndarray, bias: np.ndarray) -> np.ndarray:
    mean, variance = maps.mean((0, 2, 3), keepdims=True), maps.var((0, 2, 3), keepdims=True)
    return (maps - mean) / np.sqrt(variance + 1e-5) + bias.reshape(1, -1, 1, 1)


def array(tensor: Any) -> np.ndarray:
    values: np.ndarray = tensor.detach().numpy()
    return values


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("whitening", [False, True])
def test_logits_equal_the_formula(whitening: bool, residual: bool) -> None:
    torch.manual_seed(0)
    model = FastConvNet(
        (2, 9, 8), K, [3, 5], convs_per_group=3, residual=residual, whitening=whitening, dirac=False
    ).double()
    network = model.network
    for bias in network.biases():
        nn.init.normal_(bias)
    images = torch.randn(3, 2, 9, 8, dtype=torch.float64)
    assert network.first.bias is not None
    maps = convolution(images.numpy(), array(network.first.weight), "valid")
    maps = gelu(maps + array(network.first.bias).reshape(1, -1, 1, 1))
    for group in network.groups:
        assert isinstance(group, ConvGroup)
        first = np.zeros(())
        for number, (conv, norm) in enumerate(zip(group.convs, group.norms, strict=True)):
            matrix = array(conv.weight)
            maps = convolution(maps, matrix.reshape(len(matrix), 3, 3, -1).transpose(0, 3, 1, 2), "same")
            if number == 0:
                height, width = maps.shape[2] // 2, maps.shape[3] // 2
                maps = maps[:, :, : 2 * height, : 2 * width]
                maps = maps.reshape(*maps.shape[:2], height, 2, width, 2).max((3, 5))
            maps = normalized(maps, array(norm.bias))
            maps = gelu(maps + first if residual and number == 2 else maps)
            first = maps if number == 0 else first
    expected = maps.max((2, 3)) @ array(network.head.weight).T / 9
    np.testing.assert_allclose(array(model(images)), expected, rtol=1e-8, atol=1e-10)


def test_the_initial_loss_is_ln_k_and_every_parameter_is_trained() -> None:
    torch.manual_seed(0)
    model = FastConvNet((3, 32, 32), 10, [8, 16, 16])
    loss = model.loss(model(torch.randn(16, 3, 32, 32)), torch.randint(10, (16,)))
    assert loss.item() == pytest.approx(log(10), rel=0.05)
    assert model.expected_initial_loss() == log(10)
    loss.backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None and parameter.grad.abs().sum() > 0) == (name in trained), name
    scales = {name for name, _ in model.named_parameters() if "norms" in name and name.endswith("weight")}
    assert len(scales) == 6 and not scales & trained
    assert model.templates().shape == (24, 3, 2, 2)


def test_the_smoothed_loss_equals_the_formula_and_is_not_smoothed_in_evaluation() -> None:
    model = FastConvNet((1, 8, 8), K, [4, 4], label_smoothing=0.3)
    logits, labels = torch.randn(6, K, dtype=torch.float64), torch.randint(K, (6,))
    logp = logits - logits.exp().sum(1, keepdim=True).log()
    target = torch.full((6, K), 0.3 / K, dtype=torch.float64)
    target[torch.arange(6), labels] += 0.7
    torch.testing.assert_close(model.loss(logits, labels), -(target * logp).sum(1).mean())
    torch.testing.assert_close(model.eval().loss(logits, labels), -logp[torch.arange(6), labels].mean())


def test_test_logits_are_averaged_over_views_and_validation_logits_are_not() -> None:
    torch.manual_seed(0)
    model = FastConvNet((3, 16, 16), K, [4, 4], test_time_augmentation="mirror").eval()
    images = torch.randn(5, 3, 16, 16)
    torch.testing.assert_close(model.test_logits(images), (model(images) + model(images.flip(-1))) / 2)
    torch.testing.assert_close(model.test_logits(images), model.test_logits(images.flip(-1)))
    assert not torch.allclose(model(images), model(images.flip(-1)))


def digits(**settings: Any) -> Digits:
    return Digits(batch_size=100, flip="alternate", crop_padding=1, crop_border="reflect", **settings)


def train(folder: Path, model: FastConvNet, data: Any, **settings: Any) -> L.Trainer:
    trainer = L.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"max_epochs": 4, **settings},
    )
    trainer.fit(model, data)
    return trainer


class StepRecorder(L.Callback):
    """Records learning rates and the bias of the whitening at each step."""

    def __init__(self) -> None:
        self.rates: list[list[float]] = []
        self.biases: list[Tensor] = []

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: Any, optimizer: torch.optim.Optimizer) -> None:
        self.rates.append([group["lr"] for group in optimizer.param_groups])
        self.biases.append(pl_module.network.first.bias.detach().clone())


@pytest.mark.parametrize("optimizer", ["muon", "sgd"])
def test_training_follows_the_settings(tmp_path: Path, optimizer: Any) -> None:
    torch.manual_seed(0)
    data, recorder = digits(), StepRecorder()
    settings: dict[str, Any] = {} if optimizer == "muon" else {
        "schedule_start": 0.2, "schedule_peak": 0.25, "schedule_end": 0.1, "lookahead": 5, "lr": 10.0,
    }  # fmt: skip
    model = FastConvNet((1, 8, 8), 10, [16, 32], optimizer=optimizer, whitening_bias_epochs=2, **settings)
    trainer = train(tmp_path, model, data, callbacks=[recorder])
    assert trainer.global_step == 48  # 12 batches of 1,293 images; one optimizer, so a step counts once
    rate = model.hparams["lr"] * 100 / 1024 * 0.15
    for step, rates in enumerate(recorder.rates):
        if optimizer == "muon":
            factor = 1 - step / 48
            expected = [0.24 * factor, rate * factor, 64 * rate * factor]
        else:
            factor = 0.2 + 0.8 * step / 12 if step < 12 else 1 - 0.9 * (step - 12) / 36
            expected = [rate * factor, 64 * rate * factor]
        assert rates == pytest.approx(expected)
    assert not torch.equal(recorder.biases[0], recorder.biases[24])
    for step in range(25, 48):  # frozen; lookahead's next update, at step 25, sets it to the slow weights
        assert torch.equal(recorder.biases[step], recorder.biases[step - 1]) == (optimizer == "muon" or step != 25), (
            step
        )
    patches = model.network.first(data.training_images()[0]) - model.network.first.bias[:, None, None]  # type: ignore[index]
    covariance = patches[:, :4].movedim(1, 0).flatten(1).cov()
    torch.testing.assert_close(covariance, torch.eye(4), rtol=0, atol=0.02)  # ε reduces the variance a little
    if optimizer == "muon":
        for matrix in model.network.filters():
            assert matrix.norm().item() == pytest.approx(len(matrix) ** 0.5, rel=1e-5)
    images, labels = data.splits["val"]
    accuracy = (model.eval()(data.preprocessing(images)).argmax(1) == labels).float().mean()
    assert accuracy > (0.8 if optimizer == "muon" else 0.5)  # after 4,800 images; SGD needs more of them


def test_the_whitening_has_the_given_epsilon() -> None:
    whitened = FastConvNet((1, 8, 8), 10, [4, 4], whitening_epsilon=0.25).network.first
    assert isinstance(whitened, Whitening) and whitened.epsilon == 0.25
    with pytest.raises(ValueError, match="whitening_epsilon is -1; it must be ≥ 0"):
        FastConvNet((1, 8, 8), 10, [4, 4], whitening_epsilon=-1)


def test_without_whitening_the_first_layer_is_trained(tmp_path: Path) -> None:
    model = FastConvNet((1, 8, 8), 10, [4, 4], whitening=False, optimizer="muon")
    before = model.network.first.weight.detach().clone()
    recorder = StepRecorder()
    train(tmp_path, model, digits(), callbacks=[recorder])
    assert not torch.equal(model.network.first.weight, before)
    assert not torch.equal(recorder.biases[-1], recorder.biases[-2])


def test_refused_runs(tmp_path: Path) -> None:
    model = FastConvNet((1, 8, 8), 10, [4, 4])
    with pytest.raises(ValueError, match="whitening_bias_epochs is 3, more than the run's 2; it must be at most 2"):
        train(tmp_path, model, digits(), max_epochs=2)
    with pytest.raises(ValueError, match=r"train it on a data module with training_images\(\) and batch_size"):
        train(tmp_path, model, [(torch.zeros(2, 1, 8, 8), torch.zeros(2))])
    with pytest.raises(ValueError, match="the run has no end; set the Trainer's max_epochs or max_steps"):
        train(tmp_path, model, digits(), max_epochs=-1)


@pytest.mark.parametrize(
    ("shape", "settings", "sentence"),
    [
        ((3072,), {}, r"takes images \(C, H, W\), but the data has shape \(3072,\)"),
        ((3, 8, 8), {}, "3 groups halve maps of 7 pixels 3 times, .* set at most 2 widths"),
        ((3, 32, 32), {"widths": []}, r"widths is \[\]; it must be a list of at least one number of channels"),
        ((3, 32, 32), {"widths": [4, 0]}, r"widths is \[4, 0\]; it must be .* each at least 1"),
        ((3, 32, 32), {"convs_per_group": 0}, "convs_per_group is 0; it must be at least 1"),
        ((3, 32, 32), {"whitening_bias_epochs": -1}, "whitening_bias_epochs is -1; it must be at least 0"),
        ((3, 32, 32), {"lookahead": -1}, "lookahead is -1; it must be at least 0"),
        ((3, 32, 32), {"bias_lr_scale": 0.0}, "bias_lr_scale is 0.0; it must be > 0, such as 64"),
        ((3, 32, 32), {"label_smoothing": 1.0}, r"label_smoothing is 1.0; it must be in \[0, 1\)"),
        ((3, 32, 32), {"optimizer": "adam"}, "optimizer is 'adam'; it must be one of muon, sgd"),
        (
            (3, 32, 32),
            {"test_time_augmentation": "all"},
            "test_time_augmentation is 'all'; it must be one of one, mirror, mirror_and_shift",
        ),
    ],
)
def test_refusals(shape: tuple[int, ...], settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        FastConvNet(shape, K, **settings)


def test_a_compiled_network_keeps_the_names_of_its_weights() -> None:
    plain, compiled = (FastConvNet((1, 8, 8), K, [4, 4], compile=compile) for compile in (False, True))
    assert plain.state_dict().keys() == compiled.state_dict().keys()

"""The command line of the checks before training."""

from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from modules import SoftmaxRegression
from modules.base.classifier import ImageBatch
from pipelines import check
from pipelines.run.topics import topics

NAMES = ["initial loss", "gradients", "parameters", "evaluation", "overfitting", "splits"]


class OwnSteps(SoftmaxRegression):
    """Softmax regression with manual optimization, whose training step needs a Trainer."""

    def __init__(self, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__(input_shape, num_classes)
        self.automatic_optimization = False

    def training_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        optimizer: Any = self.optimizers()
        loss = super().training_step(batch, batch_idx)
        self.manual_backward(loss)
        optimizer.step()
        return loss


def run(arguments: list[str], monkeypatch: pytest.MonkeyPatch, folder: Path) -> int:
    """Exit status of a command line run in an empty folder, where it writes no files."""
    monkeypatch.chdir(folder)
    try:
        check.main(arguments)
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    assert list(folder.iterdir()) == []
    return code


def test_command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--config", "svm", "--data=Digits", "--model.margin=2", "--seed_everything", "3"]
    assert run(arguments, monkeypatch, tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "check: LinearSVM, 650 parameters, on Digits; seed 3"
    assert [line[:20] for line in lines[1:]] == [f"{name:<13} ok    " for name in NAMES]
    assert "expected 18.0000" in lines[1]
    assert lines[6].endswith("0 of 144 val in train, 0 of 360 test in train, 0 of 360 test in val (limit 1%)")
    assert run(arguments, monkeypatch, tmp_path) == 0
    assert capsys.readouterr().out.splitlines() == lines


def test_a_failed_check_ends_with_status_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--config=softmax", "--data=Digits", "--model.weight_scale=1", "--trainer.logger=true"]
    assert run(arguments, monkeypatch, tmp_path) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line[:18] for line in lines[1:]] == [
        f"{name:<13} {'ok' if i else 'FAIL':<4}" for i, name in enumerate(NAMES)
    ]


def test_a_model_without_parameters_to_train_passes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--config=knn", "--data=Digits"], monkeypatch, tmp_path) == 0  # its training_step needs a Trainer
    lines = capsys.readouterr().out.splitlines()
    assert [line[:18] for line in lines[1:]] == [
        f"{name:<13} {'ok' if name == 'splits' else 'n/a':<4}" for name in NAMES
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "svn"], "There is no topic or file 'svn'; did you mean svm?"),
        (
            ["--data", "Digits"],
            f"There is nothing to check; set --config to a topic ({', '.join(topics())}) or a YAML file.",
        ),
        (["--config", "svm", "--ckpt_path=x"], "--ckpt_path is set, but check is for models before training; "),
        (
            ["--config", "svm", "--data=Digits", "--model.margin=-1"],
            "margin is -1.0; it must be > 0, such as 1.",
        ),
        (["--config", "svm", "--model.margn=1"], "LinearSVM has no setting 'margn'; "),
        (
            ["--config", "svm", "--data=Digits", "--model=lightning.pytorch.demos.boring_classes.BoringModel"],
            "BoringModel lacks loss(logits, labels) and expected_initial_loss(), which the checks need; ",
        ),
        (
            ["--config=softmax", "--data=Digits", "--model=tests.pipelines.test_check.OwnSteps"],
            "OwnSteps takes the steps of its optimizers itself (automatic_optimization is False), but the checks need ",
        ),
    ],
)
def test_mistakes_end_with_status_2_and_one_sentence(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(arguments, monkeypatch, tmp_path) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {message}")
    assert len(err.splitlines()) == 1


def test_help_needs_no_topic(capsys: pytest.CaptureFixture[str]) -> None:
    check.main([])
    first = capsys.readouterr().out
    check.main(["--help"])
    assert first == capsys.readouterr().out
    assert first.startswith("usage: python -m pipelines.check --config TOPIC|FILE")
    assert "  svm " in first


def test_gradients_by_hand_are_shown_beside_autograd_and_finite_differences(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--config", "two_layer", "--by-hand", "--data=Digits", "--model.hidden_size=8"]
    assert run(arguments, monkeypatch, tmp_path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "by hand: TwoLayerNet, training loss of 10 examples of Digits in float64; seed 0"
    names = ["loss", "output.weight", "output.bias", "hidden.weight", "hidden.bias"]
    assert [line.split()[:2] for line in lines[3:8]] == [["ok", name] for name in names]
    assert lines[4].endswith("affine_backward, λ W")
    assert lines[8] == "all 5 agree (limits 1e-08 and 1e-04)"


def test_a_wrong_gradient_by_hand_ends_with_status_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipelines.checks.by_hand import layer_steps

    monkeypatch.setattr(layer_steps, "relu_backward", lambda dy, x: dy)
    assert run(["--config=two_layer", "--by-hand", "--data=Digits"], monkeypatch, tmp_path) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "2 of 5 differ (limits 1e-08 and 1e-04)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--config=gan", "--data=Digits"],
            "There are no gradients by hand of GAN; leave out --by-hand, or use one of caption_encoder_decoder, "
            "caption_lstm, caption_rnn, caption_transformer, coco_lstm, coco_transformer, convnet, fc_net, features, "
            "mnist_convnet, softmax, svm, two_layer.",
        ),
        (["--config=knn", "--data=Digits"], "There are no gradients by hand of KNearestNeighbors; leave out --by-hand"),
        (
            ["--config=convnet", "--data=Digits", "--model.channels=[4]", "--model.pooling=avg"],
            "There is no gradient by hand of AvgPool2d; choose settings without that layer.",
        ),
    ],
)
def test_topics_without_gradients_by_hand_are_refused(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run([*arguments, "--by-hand"], monkeypatch, tmp_path) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")

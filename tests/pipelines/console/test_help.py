"""The help of a topic has its own settings with their values; no private names of the program are in any help."""

import pytest

from pipelines.train import main, resolve


def shown(arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    main(arguments)
    return capsys.readouterr().out


def test_the_help_of_a_topic_has_its_settings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = shown(["fit", "svm", "--optimizer.lr", "0.5", "--help"], capsys, monkeypatch)
    lines = said.splitlines()
    assert lines[0] == "usage: python -m pipelines.train fit --config svm [--KEY VALUE ...]"
    assert lines[2] == "Multiclass linear SVM on CIFAR-10."
    assert "  --model.margin 1.0            Margin Δ by which the true class should score" in lines
    assert "  --optimizer.lr 0.5            learning rate (default: 1e-3)" in lines
    for option in ("--model.reg 0.1 ", "--data.batch_size 500 ", "--trainer.max_epochs 20 ", "--seed_everything "):
        assert f"  {option}" in said
    assert len(lines) < 150 and "functools" not in said and "num_classes" not in said


def test_the_help_of_a_model_with_optimizers_of_its_own_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for topic, setting in (("fast_convnet", "--model.optimizer muon "), ("dcgan", "--model.beta1 0.5 ")):
        said = shown(["fit", topic, "--help"], capsys, monkeypatch)
        assert "\noptimizer: set by the model's own settings\n" in said and f"  {setting}" in said
    said = shown(["fit", "svm", "--help"], capsys, monkeypatch)
    assert "None" not in said and "null uses all" in " ".join(said.split())


def test_the_help_of_a_class_is_that_of_the_configuration(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resolve(["fit", "svm", "--model.help"])[0][-2:] == ["--model.help", "modules.LinearSVM"]
    assert resolve(["fit", "svm", "--model.help", "GAN"])[0][-2:] == ["--model.help", "GAN"]
    with pytest.raises(ValueError, match=r"^--model\.help needs a class; write --model\.help CLASS, or give --config"):
        resolve(["fit", "--model.help"])
    with pytest.raises(SystemExit):
        main(["fit", "svm", "--model.help"])
    assert "Margin Δ by which the true class should score" in " ".join(capsys.readouterr().out.split())


def test_the_help_without_a_topic_has_no_private_names(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", "--help"])
    said = capsys.readouterr().out
    assert "functools" not in said and "object at 0x" not in said
    assert "input_shape(data) --> model.init_args.input_shape" in said


def test_a_folder_called_help_is_no_request_for_it() -> None:
    with pytest.raises(ValueError, match="predict needs a trained model"):
        resolve(["predict", "--config", "softmax", "--data.root", "/mnt/help"])

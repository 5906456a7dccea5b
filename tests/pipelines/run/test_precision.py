"""Mixed precision falls back to a precision that the CPU is fast in, and a run prints the change."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import yaml
from jsonargparse import Namespace

from pipelines.run.precision import choose_precision
from pipelines.train import main

OLD, NEW = {"avx2": True, "avx512_bf16": False}, {"avx2": True, "avx512_bf16": True}
SMALL = ["--data", "Digits", "--data.batch_size", "32", "--model.channels", "[4]", "--trainer.max_epochs", "1"]
FIT = ["fit", "--config", "convnet", *SMALL, "--trainer.accelerator", "cpu", "--trainer.limit_train_batches", "2"]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")


def settled(monkeypatch: pytest.MonkeyPatch, names: Mapping[str, bool], precision: str | None, *given: str) -> str:
    """Returns the precision of a run on a CPU with these instructions; checks the sentence that explains a change."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: names, raising=False)
    trainer = Namespace(precision=precision, accelerator="cpu")
    sentence = choose_precision(trainer, ["fit", *given])
    changed = str(trainer.precision) not in (str(precision), f"{precision}-mixed")
    assert changed == (sentence is not None)
    if sentence is not None:
        assert f"and {str(precision).removesuffix('-mixed')}-mixed would be many times slower" in sentence
        assert sentence.startswith(f"{trainer.precision}, since")
    return str(trainer.precision)


def test_mixed_precision_becomes_one_that_the_cpu_is_fast_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for precision in "bf16-mixed", "bf16", "16-mixed", "16":
        assert settled(monkeypatch, OLD, precision) == "32-true"
    for precision in "bf16-mixed", "16-mixed", "16":
        assert settled(monkeypatch, NEW, precision) == "bf16-mixed"
    unchanged: tuple[str | None, ...] = (None, "32-true", "64-true", "bf16-true", "16-true")
    for other in unchanged:
        assert settled(monkeypatch, OLD, other) == str(other)


def test_a_precision_on_the_command_line_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settled(monkeypatch, OLD, "bf16-mixed", "--trainer.precision", "bf16-mixed") == "bf16-mixed"
    assert settled(monkeypatch, OLD, "bf16-mixed", "--trainer.precision=bf16-mixed") == "bf16-mixed"
    assert settled(monkeypatch, OLD, "bf16-mixed", "--trainer.max_epochs", "2") == "32-true"


def test_a_gpu_keeps_the_configured_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: OLD, raising=False)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    for accelerator in "auto", "gpu":
        trainer = Namespace(precision="bf16-mixed", accelerator=accelerator)
        assert choose_precision(trainer, ["fit"]) is None
        assert trainer.precision == "bf16-mixed"
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    trainer = Namespace(precision="bf16-mixed", accelerator="auto")
    assert choose_precision(trainer, ["fit"]) is not None


def test_a_run_prints_its_precision_and_resumes_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def said() -> list[str]:
        return [line for line in capsys.readouterr().out.splitlines() if line.startswith("precision: ")]

    def precision() -> str:
        return str(yaml.safe_load((run / "config.yaml").read_text())["trainer"]["precision"])

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: OLD, raising=False)
    main(FIT)
    (run,) = (tmp_path / "logs" / "convnet").iterdir()
    stored = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert precision() == "32-true"
    assert [line.split(",")[0] for line in said()] == ["precision: 32-true"]
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: NEW, raising=False)
    main(["fit", "--ckpt_path", str(run), "--trainer.max_epochs", "2"])
    assert precision() == "32-true"
    assert said() == []

    main([*FIT, "--trainer.precision", "32-true"])
    (asked,) = (other for other in run.parent.iterdir() if other != run)
    assert said() == []
    same = torch.load(asked / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(stored[name], same[name]) for name in stored)


def test_float16_on_a_cpu_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*FIT, "--trainer.precision", "16-mixed"])
    assert "float16 training is not supported on CPUs, but precision is 16-mixed; use" in capsys.readouterr().err
    assert not any((tmp_path / "logs").rglob("*.ckpt"))

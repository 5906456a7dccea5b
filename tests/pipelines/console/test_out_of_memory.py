"""Memory that can't be had ends with a sentence, when a model is built and while it trains."""

from pathlib import Path

import pytest
import torch

from pipelines.console.errors import out_of_memory, refused_by_library
from pipelines.train import main


def test_a_tensor_larger_than_any_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.zeros(10**12, dtype=torch.int64)
    said = "There is not enough memory for 8,000.0 GB; use a smaller batch_size, smaller numbers in the model, or fewer"
    assert str(out_of_memory(caught.value)).startswith(said)
    assert str(refused_by_library(caught.value)).startswith(said)


def test_a_gpu_says_it_in_other_words() -> None:
    error = torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 139 GiB"
    )
    assert str(out_of_memory(error)).startswith("There is not enough memory for 2.50 GiB; use a smaller batch_size")
    assert out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--config knn --model.k 1000000000000", "There is not enough memory for 8,000.0 GB;"),
        ("--config convnet --model.convs_per_stage 1000000000000", "must be in [1, 1000]."),
    ],
)
def test_numbers_that_nothing_can_hold(
    arguments: str, said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with pytest.raises(SystemExit) as end:
        main(["fit", "--data", "Digits", "--trainer.callbacks", "null", *arguments.split()])
    assert end.value.code == 2
    printed = capsys.readouterr().err
    assert said in printed and printed.count("\n") == 1

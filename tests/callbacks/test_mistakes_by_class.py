"""Each row holds the surest mistakes assigned to a class, with the original pixels, on any number of ranks."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

import callbacks.mistakes_by_class
from callbacks.mistakes_by_class import MistakesByClass
from datamodules import Digits
from modules import SoftmaxRegression
from tests.callbacks.shown import Shown
from tests.helpers import trainer_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning:lightning")


def model_and_data(folder: Path, batch_size: int) -> tuple[SoftmaxRegression, Digits]:
    torch.manual_seed(2)
    data = Digits(root=str(folder), batch_size=batch_size, features=["hog"])
    return SoftmaxRegression(data.input_shape, data.num_classes, weight_scale=0.3), data


def expected_rows(model: SoftmaxRegression, data: Digits, split: str, count: int) -> dict[int, list[tuple[int, str]]]:
    """By predicted class: indices and titles of its mistakes, most confident first, by a sort over all images."""
    images, labels = data.splits[split]
    with torch.no_grad():
        confidence, predictions = model(data.preprocessing(images)).softmax(1).max(1)
    rows: dict[int, list[tuple[int, str]]] = {}
    for index in confidence.argsort(descending=True, stable=True).tolist():
        predicted, true = int(predictions[index]), int(labels[index])
        if predicted != true and len(rows.setdefault(predicted, [])) < count:
            rows[predicted].append((index, f"{predicted} {float(confidence[index]):.0%}\nis {true}"))
    return dict(sorted(rows.items()))


def assert_shown(shown: Shown, model: SoftmaxRegression, data: Digits, split: str, count: int) -> None:
    [(images, titles, columns, title)] = shown.calls
    rows = expected_rows(model, data, split, count)
    assert columns == count and title == f"false positives of each class, {split}"
    assert len(images) == len(titles) == count * len(rows) > 0
    for i, row in enumerate(rows.values()):
        row_slice = slice(i * count, i * count + len(row))
        assert titles[row_slice] == [text for _, text in row]
        pixels = data.splits[split][0][[index for index, _ in row]].float() / 255
        assert torch.equal(images[row_slice], pixels)
        rest = slice(i * count + len(row), (i + 1) * count)
        assert set(titles[rest]) <= {""} and bool((images[rest] == 1).all())


@pytest.mark.parametrize("batch_size, count", [(7, 3), (50, 40), (1000, 1)])
def test_rows_are_those_of_a_sort_over_all_test_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int, count: int
) -> None:
    shown = Shown(monkeypatch, callbacks.mistakes_by_class)
    model, data = model_and_data(tmp_path, batch_size)
    trainer_of(tmp_path, MistakesByClass(count)).test(model, data, verbose=False)
    assert_shown(shown, model, data, "test", count)
    assert [f.name for f in (tmp_path / "pictures" / "mistakes_by_class" / "test").iterdir()] == ["00000000.png"]


def test_fit_shows_those_of_the_last_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown(monkeypatch, callbacks.mistakes_by_class)
    model, data = model_and_data(tmp_path, 20)
    trainer_of(tmp_path, MistakesByClass(4), max_epochs=2).fit(model, data)
    assert_shown(shown, model, data, "val", 4)


def test_two_processes_show_what_one_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batches of two ranks as the loader deals them out, gathered by a stand-in for the process group."""
    shown = Shown(monkeypatch, callbacks.mistakes_by_class)
    model, data = model_and_data(tmp_path, 16)
    data.setup("fit")
    data.setup("test")
    images, labels = data.splits["test"]

    class FakeTrainer:
        world_size, datamodule, global_rank = 2, data, 0
        testing, test_dataloaders = True, SimpleNamespace(batch_size=16)
        log_dir, default_root_dir, is_global_zero, global_step, loggers = None, str(tmp_path), True, 0, ()
        fit_loop = SimpleNamespace(epoch_loop=SimpleNamespace(_batches_that_stepped=0))

    ranks = [MistakesByClass(5), MistakesByClass(5)]
    for start in range(0, len(labels), 16):
        trainer: Any = FakeTrainer()
        trainer.global_rank = start // 16 % 2
        batch = data.preprocessing(images[start : start + 16]), labels[start : start + 16]
        with torch.no_grad():
            logits = model(batch[0])
        ranks[trainer.global_rank].on_test_batch_end(trainer, model, logits, batch, start // 32)

    def gather(gathered: list[Any], _: Any) -> None:
        gathered[:] = [rank.mistakes for rank in ranks]

    monkeypatch.setattr(dist, "all_gather_object", gather)
    ranks[0].on_test_end(FakeTrainer(), model)  # type: ignore[arg-type]
    assert_shown(shown, model, data, "test", 5)


def test_data_without_images_and_a_model_without_mistakes_have_no_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cheating(SoftmaxRegression):
        def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
            super().test_step(batch, batch_idx)
            return torch.nn.functional.one_hot(batch[1], 10).float()

    shown = Shown(monkeypatch, callbacks.mistakes_by_class)
    trainer_of(tmp_path, MistakesByClass()).test(Cheating((1, 8, 8), 10), Digits(), verbose=False)
    model, data = model_and_data(tmp_path, 50)
    data.setup("fit")
    loader: Any = [data.on_after_batch_transfer(batch, 0) for batch in data.val_dataloader()]
    trainer_of(tmp_path, MistakesByClass()).test(model, torch.utils.data.DataLoader(loader, None), verbose=False)
    assert shown.calls == []


def test_a_count_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^count is 0; it must be at least 1\.$"):
        MistakesByClass(0)

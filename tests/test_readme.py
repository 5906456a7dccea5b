"""README.md's Python blocks, run as they stand in a folder with small CIFAR-10 files."""

import re
from pathlib import Path

import pytest

from tests.datamodules.files.official_files import write_cifar10

README = Path(__file__).resolve().parents[1] / "README.md"


@pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning:lightning")
def test_every_python_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning's defaults are those of a notebook: model summary, progress bar, logger and checkpoints."""
    monkeypatch.chdir(tmp_path)
    write_cifar10(tmp_path / "data", num_train=1000)
    blocks = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.M | re.S)
    assert blocks
    for block in blocks:
        names: dict[str, object] = {}
        exec(compile(block, "README.md", "exec"), names)  # the README's own code
        assert names["trainer"].callback_metrics["val/accuracy"] >= 0  # type: ignore[attr-defined]
    assert list(tmp_path.rglob("*.ckpt"))

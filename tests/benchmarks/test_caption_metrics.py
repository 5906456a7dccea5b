"""The benchmark of the caption metrics runs to the end and prints a figure for every variant."""

import json
import math
from pathlib import Path

import pytest

from benchmarks import caption_metrics


@pytest.mark.parametrize("kind", ["random", "COCO"])
def test_a_figure_for_every_variant(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if kind == "COCO":
        texts = ["A dog on a sofa.", "The dog sleeps on the sofa.", "A dog."]
        annotations = [{"image_id": image, "caption": f"{text} {image}"} for image in range(8) for text in texts]
        (tmp_path / "coco" / "annotations").mkdir(parents=True)
        path = tmp_path / "coco" / "annotations" / "captions_train2017.json"
        path.write_text(json.dumps({"annotations": annotations}), encoding="utf-8")
    comparison = caption_metrics.main(["--root", str(tmp_path), "--captions", "8", "--rounds", "1"])
    printed = capsys.readouterr().out
    assert f"8 {kind} captions" in printed
    metrics = {"BLEU", "ROUGE-L", "CIDEr-D"}
    assert set(comparison.variants) == metrics | {f"pycocoevalcap's {name}" for name in metrics} | {"all three"}
    for name in comparison.variants:
        assert any(line.startswith(name) for line in printed.splitlines())
        assert math.isfinite(comparison.rate(name)) and comparison.rate(name) > 0


def test_one_caption_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="captions is 1; it must be at least 2"):
        caption_metrics.main(["--root", str(tmp_path), "--captions", "1"])

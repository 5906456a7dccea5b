"""The benchmark of a folder of photos runs to its end on a few of them and prints a figure for every variant."""

import pytest

from benchmarks import image_folder


@pytest.mark.slow
def test_a_folder_of_photos_gives_a_figure_for_every_variant(capsys: pytest.CaptureFixture[str]) -> None:
    comparison = image_folder.main(["--photos", "130", "--rounds", "1", "--size", "32"])
    names = {image_folder.TORCHVISION, image_folder.IN_MEMORY, image_folder.DECODED}
    assert set(comparison.variants) == names
    printed = capsys.readouterr().out
    for name in names:
        assert any(line.startswith(name) for line in printed.splitlines())
        assert comparison.rate(name) > 0

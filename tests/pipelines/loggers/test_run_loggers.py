"""Loggers that the command line configures neither delete the files of an earlier run nor mix two runs."""

from pathlib import Path

import pytest
from lightning.pytorch.loggers import CSVLogger, WandbLogger

from common.errors import UserError
from pipelines.loggers.run_loggers import run_loggers
from pipelines.tracking.metrics_csv import MetricsCSV
from pipelines.tracking.wandb_options import RunLabels, WandbOptions

LABELS = RunLabels("svm", "svm · Digits", ("svm", "Digits"))


def test_a_csv_logger_whose_file_exists_is_refused(tmp_path: Path) -> None:
    for resume_step in (0, 20):
        assert (
            len(
                run_loggers(
                    tmp_path / "run", CSVLogger(tmp_path, "own", "v1"), resume_step, dict, WandbOptions(), LABELS
                )
            )
            == 2
        )
    file = tmp_path / "own" / "v1" / "metrics.csv"
    file.parent.mkdir(parents=True)
    file.write_text("step\n")
    for resume_step in (0, 20):
        with pytest.raises(UserError, match=r"own/v1/metrics\.csv of an earlier run; set another"):
            run_loggers(tmp_path / "run", [CSVLogger(tmp_path, "own", "v1")], resume_step, dict, WandbOptions(), LABELS)
    assert file.read_text() == "step\n"


@pytest.mark.parametrize("kind", ["run", "offline-run"])
def test_a_new_run_is_not_mixed_with_an_earlier_one_on_wandb(tmp_path: Path, kind: str) -> None:
    (tmp_path / "wandb" / f"{kind}-20260101_000000-abc").mkdir(parents=True)
    with pytest.raises(UserError, match=r"The id 'abc' of the W&B logger is that of the run in .*-abc; set another"):
        run_loggers(tmp_path / "run", WandbLogger(save_dir=tmp_path, id="abc"), 0, dict, WandbOptions(), LABELS)
    resumed, other = (WandbLogger(save_dir=tmp_path, id=name) for name in ("abc", "bc"))
    for logger, resume_step in ((resumed, 20), (other, 0)):
        loggers = run_loggers(tmp_path / "run", logger, resume_step, dict, WandbOptions(mode="disabled"), LABELS)
        assert list(map(type, loggers)) == [MetricsCSV]


def test_a_test_beside_its_training_is_not_tracked_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for mode, said in (("offline", "W&B: not tracked, because the run is still training"), ("disabled", "")):
        monkeypatch.setenv("WANDB_MODE", mode)
        (only,) = run_loggers(tmp_path / "run", None, None, dict, WandbOptions(), LABELS, beside=True)
        assert isinstance(only, MetricsCSV)
        assert capsys.readouterr().err.startswith(said)

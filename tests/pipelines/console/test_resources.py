"""What the machine lacks is said in one sentence, and the limit that may be raised is raised."""

import resource
from typing import NoReturn

import pytest
import torch

from common.errors import UserError
from pipelines.console.errors import user_errors
from pipelines.console.resources import allow_many_files


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "There is not enough memory; use a smaller batch_size or model"),
        (OSError(12, "Cannot allocate memory"), "There is not enough memory ([Errno 12] Cannot allocate memory); use"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "There is not enough memory (libto"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 1"),
            "CUDA out of memory. Tried to allocate 2.00 GiB; use a smaller batch_size or model.",
        ),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that"),
            "A data loader process ran out of shared memory (/dev/shm); enlarge it",
        ),
        (RuntimeError("can't start new thread"), "No further process or thread could be started (ulimit -u"),
        (BlockingIOError(11, "Resource temporarily unavailable"), "No further process or thread could be started"),
        (OSError(24, "Too many open files", "a.png"), "Too many files are open (ulimit -n); raise that limit"),
    ],
)
def test_a_limit_of_the_machine_is_one_sentence(
    capsys: pytest.CaptureFixture[str], error: Exception, said: str
) -> None:
    def fail() -> NoReturn:
        with user_errors():
            raise error

    with pytest.raises(SystemExit) as ended:
        fail()
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {said}") and line.endswith(".")


def test_memory_that_torch_cannot_get_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), user_errors():
        torch.empty(2**55)
    assert "There is not enough memory" in capsys.readouterr().err


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2"), user_errors():
        raise RuntimeError("mat1 and mat2 must have the same dtype")


def test_many_files_may_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"soft": 256, "hard": 4096}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limits["soft"], limits["hard"]))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, pair: limits.update(soft=pair[0]))
    allow_many_files()
    assert limits["soft"] == 4096
    limits["hard"] = resource.RLIM_INFINITY
    allow_many_files()
    assert limits["soft"] == 65_536
    limits |= {"soft": 14, "hard": 14}
    with pytest.raises(UserError, match=r"Only 14 files may be open \(ulimit -n\); allow at least 64\."):
        allow_many_files()

"""Which precisions a device is trusted with."""

from collections.abc import Mapping

import pytest
import torch

from common.machine.dtype_support import check_precision, has_bfloat16

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def capabilities(monkeypatch: pytest.MonkeyPatch, names: Mapping[str, bool]) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: names, raising=False)


@pytest.mark.parametrize(
    ("names", "has"),
    [
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx512_bf16": True}, True),
        ({"avx512_bf16": False, "amx_bf16": True}, True),
        ({"architecture": "aarch64", "neon": True, "bf16": True}, True),
        ({"architecture": "aarch64", "neon": True, "bf16": False}, False),
    ],
)
def test_a_cpu_has_bfloat16_by_its_instructions(
    monkeypatch: pytest.MonkeyPatch, names: Mapping[str, bool], has: bool
) -> None:
    capabilities(monkeypatch, names)
    assert has_bfloat16(CPU) is has


def test_a_cpu_that_cannot_be_asked_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert has_bfloat16(CPU)


def test_precisions_that_a_device_does_not_have_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_precision("bf16-mixed", CPU)  # accepted: pipelines/run/precision.py replaces it before a run
    check_precision("32-true", GPU)
    for names, instead in ({"avx512_bf16": True}, "bf16-mixed"), ({"avx2": True}, "32-true"):
        capabilities(monkeypatch, names)
        with pytest.raises(
            ValueError, match=f"float16 training is not supported on CPUs, but precision is 16-true; use {instead}"
        ):
            check_precision("16-true", CPU)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    with pytest.raises(ValueError, match=r"Tesla T4 has no bfloat16, but precision is bf16-mixed; use 16-mixed"):
        check_precision("bf16-mixed", GPU)

"""The processor's instruction sets, from made-up descriptions."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwl import processor


@pytest.fixture
def described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that Linux would describe the processor in, of an x86 machine."""
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    return tmp_path / "cpuinfo"


def test_instruction_sets_are_those_of_the_flags_line(described: Path) -> None:
    described.write_text("model name\t: A CPU with avx512\nflags\t\t: fpu avx2 amx_bf16\n")

    assert processor.instruction_sets() == {"fpu", "avx2", "amx_bf16"}


@pytest.mark.parametrize(
    ("flags", "saturates"),
    [("avx2 fma", True), ("avx2 avx_vnni", False), ("avx512f avx512_vnni", False)],
)
def test_int8_saturates_on_x86_without_vnni(flags: str, saturates: bool, described: Path) -> None:
    described.write_text(f"flags\t\t: {flags}\n")

    assert processor.int8_saturates() is saturates


def test_an_unknown_x86_processor_is_taken_to_saturate(described: Path) -> None:
    assert processor.instruction_sets() == frozenset() and processor.int8_saturates()


def test_other_processors_do_not_saturate(described: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")

    assert not processor.int8_saturates()

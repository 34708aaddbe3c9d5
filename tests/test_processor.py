"""The processor's instruction sets and cores, from made-up descriptions."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import pytest
import torch

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


def test_cores_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)

    assert processor.cores() == 3


def test_cores_are_all_where_the_system_does_not_tell_a_processs_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)

    assert processor.cores() == 64


def test_other_processors_do_not_saturate(described: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")

    assert not processor.int8_saturates()


@pytest.mark.parametrize(("count", "within"), [(3, 3), (0, 2)])
def test_threads_of_torch_are_so_many_within_and_as_before_after_an_error(
    count: int, within: int
) -> None:
    with processor.torch_threads(2):
        with pytest.raises(KeyError), processor.torch_threads(count):
            assert torch.get_num_threads() == within
            raise KeyError

        assert torch.get_num_threads() == 2


def test_one_thread_is_that_of_torch_and_of_opencv() -> None:
    before = torch.get_num_threads(), cv2.getNumThreads()

    with processor.one_thread():
        within = torch.get_num_threads(), cv2.getNumThreads()

    assert within == (1, 1) and (torch.get_num_threads(), cv2.getNumThreads()) == before

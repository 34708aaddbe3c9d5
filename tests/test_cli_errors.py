"""The command line's ways to end: one line and a status, whatever went wrong."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from hwl import cli
from hwl.errors import HwlError


def ended(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture, *arguments: str
) -> tuple[object, str]:
    """What a command line in this process exits with, and its standard error."""
    monkeypatch.setattr(sys, "argv", ["hwl", *arguments])
    with pytest.raises(SystemExit) as leaving:
        cli.main()
    return leaving.value.code, capfd.readouterr().err


def failing_with(error: BaseException) -> dict:
    def fail() -> None:
        raise error

    return {"fail": fail, "other": fail}


@pytest.mark.parametrize("arguments", [["--help"], ["data", "--help"], ["train", "--help"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    """Torch alone takes seconds, and help is what a user asks for first."""
    code = (
        "import sys\n"
        f"sys.argv = ['hwl', *{arguments}]\n"
        "from hwl.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit:\n"
        "    heavy = {'torch', 'numpy', 'pandas', 'cv2', 'matplotlib', 'papermill', 'scipy'}\n"
        "    print('loaded:', sorted(heavy & set(sys.modules)))\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.stdout.splitlines()[-1] == "loaded: []"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (HwlError("images/1.jpg: cannot be read"), "hwl: images/1.jpg: cannot be read"),
        (
            PermissionError(13, "Permission denied", "runs/a"),
            "hwl: [Errno 13] Permission denied: 'runs/a'",
        ),
        (OSError(28, "No space left on device"), "hwl: [Errno 28] No space left on device"),
        (
            MemoryError("Unable to allocate 9 GiB"),
            "hwl: memory ran out (Unable to allocate 9 GiB): lower batch_size or the input size",
        ),
        (
            RuntimeError("x] DefaultCPUAllocator: can't allocate memory: 9 bytes\nC++ trace"),
            "hwl: memory ran out (x] DefaultCPUAllocator: can't allocate memory: 9 bytes): lower "
            "batch_size or the input size",
        ),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried"),
            "hwl: memory ran out (CUDA out of memory. Tried): lower batch_size or the input size",
        ),
    ],
)
def test_what_a_user_can_put_right_is_one_line(
    error: Exception,
    status: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
) -> None:
    monkeypatch.setattr(cli, "COMMANDS", failing_with(error))

    assert ended(monkeypatch, capfd, "fail") == (status, "")


def test_an_error_of_the_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "COMMANDS", failing_with(RuntimeError("a bug")))
    monkeypatch.setattr(sys, "argv", ["hwl", "fail"])

    with pytest.raises(RuntimeError, match="a bug"):
        cli.main()


def test_an_interrupt_is_one_line_and_status_130(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(cli, "COMMANDS", failing_with(KeyboardInterrupt()))
    monkeypatch.setattr("logging.disable", lambda: None)  # the other tests are in this process

    assert ended(monkeypatch, capfd, "fail") == (130, "hwl: interrupted\n")


def test_an_argument_that_is_not_utf8_is_refused(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    argument = os.fsdecode(b"image-\xff.jpg")

    status, _ = ended(monkeypatch, capfd, "predict", argument, "--weights", "w.safetensors")

    assert status == r"hwl: argument 'image-\udcff.jpg' is not UTF-8: rename what it names"


def test_a_closed_pipe_ends_the_command_without_a_word() -> None:
    reading, writing = os.pipe()
    os.close(reading)

    done = subprocess.run(
        [sys.executable, "-m", "hwl", "--help"], stdout=writing, stderr=subprocess.PIPE, text=True
    )
    os.close(writing)

    assert (done.returncode, done.stderr) == (141, "")

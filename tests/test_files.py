"""Files written whole or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from hwl.errors import HwlError
from hwl.files import replacing, told_when_full


def test_a_file_takes_its_new_content_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"

    with replacing(path) as partial:
        partial.write_text("half")
        assert not path.exists()
        partial.write_text("whole")

    assert [(entry.name, entry.read_text()) for entry in path.parent.iterdir()] == [
        ("file.txt", "whole")
    ]


def test_an_error_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    with pytest.raises(ZeroDivisionError), replacing(path) as partial:
        partial.write_text("half")
        raise ZeroDivisionError

    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [
        ("file.txt", "old")
    ]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_with_what_is_kept(number: int) -> None:
    with (
        pytest.raises(HwlError, match=r"no room \(runs/a\); it is kept"),
        told_when_full("it is kept"),
    ):
        raise OSError(number, "no room", "runs/a")


def test_another_error_of_the_disk_is_left_as_it_is() -> None:
    with pytest.raises(PermissionError), told_when_full("it is kept"):
        raise PermissionError(errno.EACCES, "denied", "runs/a")

"""Files written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwl.files import replacing


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

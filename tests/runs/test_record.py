"""A run's record: entries by name, and one line on a file that another program wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwl.errors import HwlError
from hwl.files import write_json
from hwl.runs.record import Record, is_of_other_weights, unlike_the_others


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "run.json").write_text('{"git": null, "config": {"data": "data/puppets"}}')
    return tmp_path / "run.json"


def test_entries_are_found_by_their_names(path: Path) -> None:
    record = Record(path)

    assert record.entry("config", "data") == "data/puppets" and record.entry("git") is None
    assert record.has("git") and not record.has("trained")


@pytest.mark.parametrize("names", [("hardware",), ("config", "model"), ("git", "commit")])
def test_an_entry_that_is_missing_is_told_in_one_line(names: tuple[str, ...], path: Path) -> None:
    with pytest.raises(HwlError) as told:
        Record(path).entry(*names)

    line = str(told.value)
    assert line.startswith(f"{path} has no entry '{'.'.join(names)}'") and "\n" not in line
    assert "make the run again" in line


def test_a_file_that_is_no_record_is_refused(path: Path) -> None:
    path.write_text("[]")

    with pytest.raises(HwlError, match="holds no record of a run"):
        Record(path)


def test_a_run_of_another_commit_or_machine_than_most_is_named_with_what_differs() -> None:
    usual = {"commit": "c", "cpu": "A", "cores": 2, "gpu": "", "torch": "2.14"}
    runs = {"a": usual, "b": usual, "c": usual | {"commit": "d", "cores": 4}}

    assert unlike_the_others(runs) == {"a": "", "b": "", "c": "commit, cores"}
    assert unlike_the_others({}) == {}


@pytest.mark.parametrize(
    ("training", "other"),
    [
        ({"weights": {"best.safetensors": "ab12", "last.safetensors": "cd34"}}, False),
        ({"weights": {"best.safetensors": "ffff"}}, True),
        ({"config": {}}, False),  # of an older version, which tells no weights
    ],
)
def test_an_evaluation_is_of_other_weights_if_none_that_its_training_left_has_their_hash(
    training: dict[str, object], other: bool, tmp_path: Path
) -> None:
    write_json(tmp_path / "evaluate/run.json", {"inputs": {"weights": "a/b sha256:cd34"}})
    write_json(tmp_path / "train/run.json", training)

    assert is_of_other_weights(tmp_path / "evaluate", tmp_path / "train") is other

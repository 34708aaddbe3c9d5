"""Run folders: published whole or not at all, with readable numbers and their provenance."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from hwl.errors import HwlError
from hwl.files import read_json, write_json, write_table
from hwl.paths import from_project
from hwl.runs import provenance as provenance_module
from hwl.runs.folder import CHECKPOINT, MARKER, RunFolder, new_run, read_marker
from hwl.runs.provenance import fingerprint, hardware_slug, provenance, recorded_config


@dataclass(frozen=True)
class Job:
    kind: ClassVar[str] = "evaluate"
    output: str = "results/a"
    seed: int = 3


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.txt")}


@pytest.fixture
def old_run(tmp_path: Path) -> Path:
    """A published run with a file that a new one does not have."""
    folder = tmp_path / "runs/a"
    with new_run(Job(str(folder))) as partial:
        (partial / "old.txt").write_text("old")
    return folder


def test_a_run_appears_at_its_end_and_not_before(tmp_path: Path) -> None:
    folder = tmp_path / "runs/a"

    with new_run(Job(str(folder))) as partial:
        (partial / "new.txt").write_text("new")
        assert not folder.exists()

    assert contents(folder) == {"new.txt": "new"}
    assert list(folder.parent.iterdir()) == [folder]


def test_a_new_run_replaces_the_older_one_whole(old_run: Path) -> None:
    with new_run(Job(str(old_run))) as partial:
        (partial / "new.txt").write_text("new")
        assert contents(old_run) == {"old.txt": "old"}

    assert contents(old_run) == {"new.txt": "new"}
    assert list(old_run.parent.iterdir()) == [old_run]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_run_that_fails_is_removed_and_the_older_one_kept(
    error: type[BaseException], old_run: Path
) -> None:
    with pytest.raises(error), new_run(Job(str(old_run))) as partial:
        (partial / "new.txt").write_text("new")
        raise error

    assert contents(old_run) == {"old.txt": "old"}
    assert list(old_run.parent.iterdir()) == [old_run]


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    killed = RunFolder("evaluate", tmp_path / "a", {})
    (killed.begin() / "stale.txt").touch()
    killed.close()

    with new_run(Job(str(tmp_path / "a"))) as partial:
        assert contents(partial) == {}


def test_a_kill_between_the_renames_leaves_the_older_run(old_run: Path) -> None:
    killed = RunFolder("evaluate", old_run, {})
    (killed.begin() / "new.txt").write_text("new")
    old_run.rename(old_run.with_name("a.partial-old"))
    killed.close()

    with pytest.raises(ValueError), new_run(Job(str(old_run))):
        raise ValueError

    assert contents(old_run) == {"old.txt": "old"}
    assert list(old_run.parent.iterdir()) == [old_run]


def test_a_kill_after_the_renames_leaves_the_new_run(old_run: Path) -> None:
    left = old_run.with_name("a.partial-old")
    old_run.rename(left)
    with new_run(Job(str(old_run.with_name("b")))) as partial:
        (partial / "new.txt").write_text("new")
    old_run.with_name("b").rename(old_run)

    with pytest.raises(ValueError), new_run(Job(str(old_run))):
        raise ValueError

    assert contents(old_run) == {"new.txt": "new"}
    assert list(old_run.parent.iterdir()) == [old_run]


def test_a_published_run_is_not_changed_over_an_interrupted_training(tmp_path: Path) -> None:
    published, killed = (RunFolder("train", tmp_path / "a", {}) for _ in range(2))
    (published.begin() / "new.txt").write_text("new")
    published.publish()
    (killed.begin() / CHECKPOINT).write_text("hours")
    killed.close()

    with pytest.raises(
        HwlError, match=r"a\.partial holds another, interrupted training, .* finish"
    ):
        published.reopen()

    assert (tmp_path / "a.partial" / CHECKPOINT).read_text() == "hours"
    assert killed.begin()  # nothing locks it


@pytest.mark.parametrize("content", ["{", "[]", "3", "{}", '{"kind": 3}'])
def test_what_is_no_marker_of_a_run_is_none(content: str, tmp_path: Path) -> None:
    (tmp_path / MARKER).write_text(content)

    assert read_marker(tmp_path) is None


def test_json_is_read_as_it_was_written(tmp_path: Path) -> None:
    content = {"AP": 0.5, "names": ["a", "b"], "protocol": {"flip": True, "limit": None}}

    write_json(tmp_path / "a.json", content)

    assert read_json(tmp_path / "a.json") == content


def test_nan_is_written_as_null_at_any_depth(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"AP": math.nan, "by": [{"M": math.nan}, (math.nan, 1)]})

    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == {"AP": None, "by": [{"M": None}, [None, 1]]}
    assert "NaN" not in text


def test_what_json_cannot_hold_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"AP": 0.5})

    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"AP": object()})

    assert read_json(tmp_path / "a.json") == {"AP": 0.5}


def test_missing_json_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(HwlError, match=r"gone\.json: cannot be read .*has the run .* been made"):
        read_json(tmp_path / "gone.json")


def test_broken_json_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"AP": 0.')

    with pytest.raises(HwlError, match=r"a\.json is broken .*make the run again"):
        read_json(tmp_path / "a.json")


def test_a_table_has_the_first_rows_columns(tmp_path: Path) -> None:
    rows = [{"model": "a, b", "median_ms": 1.5}, {"model": "c", "median_ms": ""}]

    write_table(tmp_path / "a.csv", rows)

    assert (tmp_path / "a.csv").read_bytes() == b'model,median_ms\n"a, b",1.5\nc,\n'
    assert list(tmp_path.iterdir()) == [tmp_path / "a.csv"]


def test_a_fingerprint_is_the_start_of_the_files_sha256(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"abc")

    digest = hashlib.sha256(b"abc").hexdigest()
    assert fingerprint(tmp_path / "a.bin") == digest[:16]


def test_provenance_says_what_made_a_run(tmp_path: Path) -> None:
    (tmp_path / "val.json").write_bytes(b"abc")

    made = provenance(Job(), {"val": tmp_path / "val.json"})

    assert made["config"] == {"output": "results/a", "seed": 3}
    path = from_project(tmp_path / "val.json")
    assert made["inputs"] == {"val": f"{path} sha256:ba7816bf8f01cfea"}
    assert made["packages"]["torch"] == torch.__version__.partition("+")[0]
    assert all(made["packages"][name] for name in provenance_module.PACKAGES)
    assert {*provenance_module.PACKAGES, "onnxruntime", "openvino"} <= set(made["packages"])
    assert made["hardware"]["cpu"] and made["hardware"]["cores"] >= 1
    assert made["hardware"]["threads"] == torch.get_num_threads()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", made["finished_utc"])
    json.dumps(made)


def test_provenance_has_the_commit_and_whether_the_code_differs() -> None:
    git = provenance(Job(), {})["git"]

    if not (provenance_module.PROJECT / ".git").exists():
        assert git is None
    else:
        assert re.fullmatch("[0-9a-f]{40}", git["commit"]) and isinstance(git["dirty"], bool)


@pytest.mark.parametrize(
    ("cpu", "gpu", "slug"),
    [
        ("Intel(R) Xeon(R) Processor", None, "intel-xeon"),
        ("Intel(R) Core(TM) i7-10750H CPU @ 2.60GHz", None, "intel-core-i7-10750h"),
        ("AMD EPYC 7763 64-Core Processor", "NVIDIA H200", "amd-epyc-7763-nvidia-h200"),
        ("AMD Ryzen 7 5800H with Radeon Graphics", None, "amd-ryzen-7-5800h"),
    ],
)
def test_a_machine_has_a_short_name_for_files(
    cpu: str, gpu: str | None, slug: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance_module, "hardware", lambda: {"cpu": cpu, "gpu": gpu})

    assert hardware_slug() == slug


@pytest.mark.parametrize("record", [None, b"", b"\xff", b"[]", b'{"a": 1}', b'{"config": 3}'])
def test_a_foreign_record_tells_no_configuration(record: bytes | None, tmp_path: Path) -> None:
    if record is not None:
        (tmp_path / "run.json").write_bytes(record)

    assert recorded_config(tmp_path / "run.json") == {}


def test_outside_a_clone_there_is_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance_module, "PROJECT", tmp_path)

    assert provenance_module._git() is None


def test_the_code_is_that_which_the_process_has_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = provenance(Job(), {})["code"]
    (tmp_path / "hwl").mkdir()
    (tmp_path / "hwl/changed.py").write_text("meanwhile")
    monkeypatch.setattr(provenance_module, "PROJECT", tmp_path)

    assert provenance_module.code_fingerprint() != before
    assert provenance(Job(), {})["code"] == before

"""What a run's record tells: nothing of the machine's folders, everything that changes numbers."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from hwl.cli import main
from hwl.paths import PROJECT, from_project
from hwl.runs import provenance as provenance_module
from hwl.runs.command import COMMAND, command, in_words, relative
from hwl.runs.provenance import folder_fingerprint, provenance


@dataclass(frozen=True)
class Job:
    output: str
    runs: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("path", "told"),
    [
        (PROJECT / "runs/a", "runs/a"),
        ("runs/a", "runs/a"),
        (PROJECT / "runs/../data", "data"),
        (PROJECT.parent / "shared/data", "../shared/data"),
        ("/somewhere/else/weights.pt", "weights.pt"),
        (PROJECT, "."),
    ],
)
def test_a_path_is_told_relative_to_the_project_or_by_its_name(path: Path, told: str) -> None:
    assert from_project(path) == told


def test_a_configuration_is_told_without_absolute_paths() -> None:
    values = {"data": str(PROJECT / "data"), "lr": 1e-3, "of": ["/x/y", {"b": "/z"}], "F": "zero"}

    assert relative(values) == {"data": "data", "lr": 1e-3, "of": ["y", {"b": "z"}], "F": "zero"}


def test_a_record_tells_paths_of_configuration_and_inputs_relative_to_the_project() -> None:
    made = provenance(Job(str(PROJECT / "runs/a")), {"readme": PROJECT / "README.md"})

    assert made["config"] == {"output": "runs/a", "runs": []}
    assert made["inputs"]["readme"].startswith("README.md sha256:")


def test_a_record_tells_variables_that_change_numbers_or_speed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = {"OMP_NUM_THREADS": "1", "ONEDNN_MAX_CPU_ISA": "AVX2", "MALLOC_ARENA_MAX": "2"}
    told |= {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=1", "MKL_CBWR": "AVX2"}
    for name, value in {**told, "TORCH_HOME": "/x/torch", "HOME": "/x", "SECRET": "s"}.items():
        monkeypatch.setenv(name, value)

    environment = provenance(Job("a"), {})["environment"]

    assert told.items() <= environment.items() and environment["TORCH_HOME"] == "torch"
    assert not {"HOME", "SECRET"} & set(environment)


def test_a_record_tells_kernel_memory_and_load() -> None:
    made = provenance(Job("a"), {})

    assert made["kernel"] and made["hardware"]["memory_GiB"] > 0
    assert len(made["load_average"]) == 3


def test_a_record_tells_the_cores_of_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hwl.processor.cores", lambda: 3)

    assert provenance(Job("a"), {})["hardware"]["cores"] == 3


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "images/more").mkdir(parents=True)
    (tmp_path / "images/1.jpg").write_bytes(b"one")
    (tmp_path / "images/more/2.jpg").write_bytes(b"two")
    return tmp_path / "images"


def test_a_small_folder_is_told_by_names_and_contents(images: Path) -> None:
    before = folder_fingerprint(images)
    (images / "1.jpg").write_bytes(b"eno")

    assert before.startswith("2 files, names and contents sha256:")
    assert folder_fingerprint(images) != before


def test_a_large_folder_is_told_by_names_and_sizes(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance_module, "SMALL", 5)
    before = folder_fingerprint(images)

    (images / "1.jpg").write_bytes(b"eno")
    assert before.startswith("2 files, names and sizes sha256:")
    assert folder_fingerprint(images) == before
    (images / "1.jpg").write_bytes(b"longer")
    assert folder_fingerprint(images) != before


def test_a_renamed_file_changes_a_folders_fingerprint(images: Path) -> None:
    before = folder_fingerprint(images)
    (images / "1.jpg").rename(images / "3.jpg")

    assert folder_fingerprint(images) != before


def test_an_unlinked_folders_fingerprint_is_that_of_earlier_records(images: Path) -> None:
    assert folder_fingerprint(images) == "2 files, names and contents sha256:437f3d878b9dedbf"


def test_the_images_of_a_linked_subfolder_count(images: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/3.jpg").write_bytes(b"three")
    (images / "linked").symlink_to(tmp_path / "elsewhere")
    before = folder_fingerprint(images)

    (tmp_path / "elsewhere/3.jpg").write_bytes(b"eerht")

    assert before.startswith("3 files") and folder_fingerprint(images) != before


def test_a_link_to_a_folder_above_is_entered_once(images: Path) -> None:
    before = folder_fingerprint(images)
    (images / "more/above").symlink_to(images)

    assert folder_fingerprint(images) == before


def test_the_command_is_that_of_hwl_with_relative_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COMMAND, "")  # so that it is put back
    monkeypatch.setattr(sys, "argv", ["hwl", "compare", str(PROJECT / "no profile")])

    with pytest.raises(SystemExit):
        main()

    assert command() == "hwl compare 'no profile'"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["run", "1_train", "-p", "output", f"{PROJECT}/runs/a"],
            "hwl run 1_train -p output runs/a",
        ),
        ([f"--data={PROJECT}/data"], "hwl --data=data"),
        (["-p", "lr_drops", "[4]"], "hwl -p lr_drops '[4]'"),
    ],
)
def test_a_command_is_told_so_that_it_can_be_repeated(words: list[str], told: str) -> None:
    assert in_words("hwl", words) == told


def test_in_a_notebook_that_a_person_opened_the_command_is_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(COMMAND, raising=False)
    monkeypatch.setenv("JPY_SESSION_NAME", "/x/notebooks/1_train.ipynb")

    assert command() == "jupyter: 1_train.ipynb"

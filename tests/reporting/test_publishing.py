"""Publishing: evidence of clean commits, each thing once, without paths of the machine."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from hwl.errors import HwlError
from hwl.files import read_json, write_json, write_table
from hwl.paths import PROJECT
from hwl.reporting.publishing import publish

PNG = b"\x89PNG a figure"
PAGE = (
    '<p><img src="data:image/png;base64,{}"><a href="evaluate/ours-seed0/notebook.html">r</a>'
    ', <a href="logs/evaluate-ours-seed0.log">log</a>'
)


def run(folder: Path, finished: str = "2026-01-01T00:00:00+00:00", **changes: object) -> None:
    """A finished run of a clean commit, with what stays and what is published."""
    record = {
        **{"config": {"data": "data/puppets"}, "inputs": {"weights": "w sha256:0"}},
        **{"git": {"commit": "c" * 40, "dirty": False}, "packages": {"torch": "2.14.1"}},
        **{"hardware": {"cpu": "A CPU", "cores": 2, "gpu": None}, "finished_utc": finished},
    }
    write_json(folder / "run.json", {**record, **changes})
    write_json(folder / "metrics.json", {"AP": 0.5})
    (folder / "curves.png").write_bytes(PNG + str(folder).encode())
    for name in ("curves.svg", "notebook.ipynb", "notebook.html", "keypoints_results.json"):
        (folder / name).write_text("stays")
    (folder / "images").mkdir(exist_ok=True)
    (folder / "images/1.png").write_bytes(b"stays")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Finished runs of the profile embedded, with weights and a report."""
    root = tmp_path / "runs/embedded"
    recipe = dict.fromkeys(["model", "data", "train_split", "val_split", "epochs", "lr"], "x")
    run(root / "train/ours-seed0", config=recipe)
    (root / "train/ours-seed0/best.safetensors").write_bytes(b"weights")
    run(root / "train/mse-seed0", config=recipe)
    (root / "train/mse-seed0/best.safetensors").write_bytes(b"weights")
    run(root / "evaluate/ours-seed0")
    row = {"boxes": "detected", "flip": True, "decode": "quarter-pixel", "input": "128x96"}
    row |= {"images": 200, "AP": 0.5, "AP_low": 0.45, "AP_high": 0.55}
    write_table(root / "evaluate/ours-seed0/protocols.csv", [row])
    run(root / "evaluate/mse-seed0.partial")
    run(root / "report", "2026-01-01T00:01:00+00:00")
    figure = (root / "evaluate/ours-seed0/curves.png").read_bytes()
    (root / "index.html").write_text(PAGE.format(base64.b64encode(figure).decode()))
    return tmp_path / "runs"


def published(runs: Path) -> list[str]:
    target = runs.parent / "results"
    return [path.relative_to(target).as_posix() for path in publish("embedded", runs, target)]


def test_tables_numbers_figures_the_page_and_the_named_weights_are_published(runs: Path) -> None:
    each = ["curves.png", "metrics.json", "run.json"]
    folders = {
        "evaluate/ours-seed0": ["curves.png", "metrics.json", "protocols.csv", "run.json"],
        "report": each,
        "train/mse-seed0": each,
        "train/ours-seed0": ["MODEL_CARD.md", "best.safetensors", *each],
    }
    wanted = [f"{folder}/{name}" for folder, names in folders.items() for name in names]

    assert sorted(published(runs)) == sorted(
        f"embedded/{name}" for name in [*wanted, "index.html", "runs.csv"]
    )


def test_a_figure_that_two_runs_share_is_published_once(runs: Path) -> None:
    figure = (runs / "embedded/train/mse-seed0/curves.png").read_bytes()
    (runs / "embedded/train/ours-seed0/curves.png").write_bytes(figure)

    found = published(runs)

    assert "embedded/train/mse-seed0/curves.png" in found
    assert "embedded/train/ours-seed0/curves.png" not in found


def test_the_page_links_published_figures_and_folders_instead_of_copies(runs: Path) -> None:
    published(runs)

    page = (runs.parent / "results/embedded/index.html").read_text()
    assert "base64" not in page and 'src="evaluate/ours-seed0/curves.png"' in page
    assert 'href="evaluate/ours-seed0/"' in page and "logs/" not in page


def test_the_model_card_has_accuracy_with_its_interval_limits_and_licence(runs: Path) -> None:
    published(runs)

    card = (runs.parent / "results/embedded/train/ours-seed0/MODEL_CARD.md").read_text()
    assert "AP 0.500 (95 % interval over images 0.450 to 0.550): detected boxes, flip test" in card
    assert "drawn puppets only" in card and "MIT" in card and "epochs: x" in card


def test_runs_csv_says_from_which_commit_and_machine_each_run_is_and_which_is_not_as_the_others(
    runs: Path,
) -> None:
    git = {"commit": "d" * 40, "dirty": False}
    run(runs / "embedded/evaluate/ours-seed1", git=git)
    published(runs)

    table = pd.read_csv(runs.parent / "results/embedded/runs.csv", keep_default_na=False)
    table = table.set_index("run")
    assert table.loc["evaluate/ours-seed1", "commit"] == "d" * 40
    assert table.loc["evaluate/ours-seed0", "commit"] == "c" * 40
    assert set(table["cpu"]) == {"A CPU"}
    differs = table["differs_from_most_in"]
    assert differs["evaluate/ours-seed1"] == "commit" and set(
        differs.drop("evaluate/ours-seed1")
    ) == {""}


@pytest.mark.parametrize("git", [None, {"commit": "c" * 40, "dirty": True}])
def test_a_run_of_no_clean_commit_is_refused_and_what_was_published_stays(
    git: dict | None, runs: Path
) -> None:
    before = published(runs)
    run(runs / "embedded/evaluate/ours-seed0", git=git)

    with pytest.raises(HwlError, match=r"evaluate/ours-seed0 was made from code .* no commit"):
        published(runs)

    found = (runs.parent / "results").rglob("*")
    assert sorted(p.relative_to(runs.parent / "results").as_posix() for p in found if p.is_file()) \
        == sorted(before)  # fmt: skip


def test_a_run_begun_by_other_code_than_it_was_finished_by_is_refused(runs: Path) -> None:
    run(runs / "embedded/train/mse-seed0", codes=["a", "b"])

    with pytest.raises(HwlError, match="train/mse-seed0 was begun by other code"):
        published(runs)


def test_an_evaluation_of_other_weights_than_lie_beside_it_is_refused(runs: Path) -> None:
    run(runs / "embedded/train/ours-seed0", weights={"best.safetensors": "1"})

    with pytest.raises(HwlError, match="evaluate/ours-seed0 is of other weights than train/ours"):
        published(runs)


def test_a_report_older_than_a_run_is_refused(runs: Path) -> None:
    run(runs / "embedded/evaluate/ours-seed0", "2026-01-01T00:02:00+00:00")

    with pytest.raises(HwlError, match="ours-seed0 is newer than the report: `make reproduce"):
        published(runs)


def test_runs_without_a_report_are_refused(runs: Path) -> None:
    (runs / "embedded/index.html").unlink()

    with pytest.raises(HwlError, match="has no report: `make reproduce PROFILE=embedded`"):
        published(runs)


@pytest.mark.parametrize("place", [PROJECT, PROJECT.parent / "else", Path.home() / "data"])
def test_a_path_of_this_machine_is_refused(place: Path, runs: Path) -> None:
    record = read_json(runs / "embedded/evaluate/ours-seed0/run.json")
    record["config"]["data"] = str(place / "puppets")
    (runs / "embedded/evaluate/ours-seed0/run.json").write_text(json.dumps(record))

    with pytest.raises(HwlError, match=r"run\.json has a path of this machine"):
        published(runs)


def test_an_experiment_is_published_as_far_as_it_is(runs: Path) -> None:
    for kind in ("train", "evaluate"):
        run(runs / f"evidence/{kind}/zero-seed0")
    run(runs / "evidence/train/zero-seed1")  # not tested yet
    (runs / "evidence/evaluate/zero-seed0/persons.npz").write_bytes(b"OKS")
    (runs / "evidence/train/zero-seed0/last.safetensors").write_bytes(b"stays")
    target = runs.parent / "results"

    found = publish("evidence", runs, target)

    each = ["curves.png", "metrics.json", "run.json"]
    wanted = [f"train/zero-seed0/{name}" for name in each] + ["runs.csv"]
    wanted += [f"evaluate/zero-seed0/{name}" for name in [*each, "persons.npz"]]
    assert sorted(p.relative_to(target / "evidence").as_posix() for p in found) == sorted(wanted)


def test_an_experiments_published_run_that_is_not_there_is_not_lost(runs: Path) -> None:
    target = runs.parent / "results"
    for seed in (0, 1):
        for kind in ("train", "evaluate"):
            run(runs / f"evidence/{kind}/zero-seed{seed}")
    publish("evidence", runs, target)
    shutil.rmtree(runs / "evidence/evaluate/zero-seed0")

    with pytest.raises(HwlError, match=r"evaluate/zero-seed0 would be lost, for .* lacks it"):
        publish("evidence", runs, target)

    assert (target / "evidence/evaluate/zero-seed0/run.json").exists()


def test_an_experiment_without_runs_is_refused(runs: Path) -> None:
    with pytest.raises(HwlError, match="has no report: `make reproduce PROFILE=evidence`"):
        publish("evidence", runs, runs.parent / "results")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({}, "'limits' is missing"),
        ({"limits": "few"}, "'licence' is missing"),
        ({"limits": "few", "licence": ""}, "'licence' is ''"),
        ({"limits": 3, "licence": "MIT"}, "'limits' is 3"),
        ({"limits": "few", "licence": "MIT", "author": "me"}, "unknown parameter 'author'"),
        (None, "has no 'limits' and 'licence'"),
    ],
)
def test_weights_without_limits_and_licence_are_refused_before_anything_is_written(
    said: object, message: str, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (runs.parent / "profiles").mkdir()
    profile = runs.parent / "profiles/embedded.yaml"
    told = {"profile": "embedded", "published_weights": {"ours-seed0": said}}
    profile.write_text(json.dumps(told))
    monkeypatch.setattr("hwl.runs.graph.PROJECT", runs.parent)

    with pytest.raises(HwlError, match=f"'published_weights' of ours-seed0.*{message}"):
        published(runs)

    assert not (runs.parent / "results").exists()


def test_publishing_again_replaces_the_profile_whole(runs: Path) -> None:
    published(runs)
    (runs.parent / "results/embedded/stale.csv").touch()

    assert "embedded/stale.csv" not in published(runs)
    assert sorted(p.name for p in (runs.parent / "results").iterdir()) == ["embedded"]


@pytest.mark.parametrize("name", ["git", "hardware", "packages", "finished_utc", "inputs"])
def test_a_foreign_record_is_told_in_one_line_and_nothing_is_published(
    name: str, runs: Path
) -> None:
    path = runs / "embedded/train/ours-seed0/run.json"
    record = read_json(path)
    del record[name]
    path.write_text(json.dumps(record))

    with pytest.raises(HwlError, match=f"train/ours-seed0/run.json has no entry '{name}"):
        published(runs)

    assert not (runs.parent / "results/embedded").exists()

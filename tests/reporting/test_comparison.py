"""A user's runs beside the published ones: reproduced, not reproduced, or not comparable."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from hwl.errors import HwlError
from hwl.files import write_json, write_table
from hwl.reporting.comparison import compare_runs, in_words, judge

ROW = {"boxes": "ground-truth", "flip": True, "decode": "quarter-pixel", "runtime": "eager"}
ROW |= {"input": "128x96", "images": 200, "persons": 416}
ROW |= {"AP": 0.541, "AP_low": 0.515, "AP_high": 0.571}


def evaluated(root: Path, **changes: object) -> None:
    write_table(root / "evaluate/ours-seed0/protocols.csv", [{**ROW, **changes}])


def compared(root: Path, difference: float) -> None:
    row = {"variant": "ours", "seeds": 1, "mean AP": 0.5, "difference to mse": difference}
    row |= {"95 % low": math.nan, "95 % high": math.nan, "verdict": "one seed"}
    base = {**row, "variant": "mse", "difference to mse": 0.0}
    write_table(root / "ablations/comparison.csv", [base, row])


def timed(root: Path, fps: float, cpu: str = "A CPU", parameters: int = 3077882) -> None:
    write_json(root / "speed/metrics.json", {"model": "ours", "fused_FPS": fps, "int8_FPS": None})
    hardware = {"cpu": cpu, "cores": 2, "gpu": None, "threads": 1}
    write_json(root / "speed/run.json", {"hardware": hardware})
    counts = {"model": "ours", "parameters": parameters, "conv MACs (M)": 558.997}
    write_table(root / "speed/counting-256x192.csv", [counts])


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Folders of a profile's own and published runs, with the same numbers in both."""
    for root in (tmp_path / "runs/p", tmp_path / "results/p"):
        evaluated(root)
        compared(root, 0.02)
        timed(root, 50.0)
    return tmp_path / "runs/p", tmp_path / "results/p"


def verdicts(folders: tuple[Path, Path]) -> dict[str, str]:
    table = compare_runs(*folders)
    return dict(zip(table["number"], table["verdict"], strict=True))


AP = "evaluate/ours-seed0: AP, ground-truth boxes, flip test"


def test_equal_runs_are_reproduced_number_by_number(folders: tuple[Path, Path]) -> None:
    assert verdicts(folders) == {
        AP: "reproduced",
        "ours minus mse, AP": "same sign",
        "speed: ours, parameters": "reproduced",
        "speed: ours, conv MACs (M)": "reproduced",
        "speed: ours, fused FPS": "reproduced",
    }


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        *[(value, "reproduced") for value in (0.541, 0.533, 0.505, 0.58)],
        *[(value, "not reproduced") for value in (0.503, 0.584, math.nan)],
    ],
)
def test_a_number_is_reproduced_within_the_interval_widened_by_root_two(
    value: float, verdict: str
) -> None:
    # 0.541 - 1.414 * 0.026 = 0.5042 and 0.541 + 1.414 * 0.030 = 0.5834
    assert judge(value, 0.541, 0.515, 0.571) == verdict


def test_an_altered_number_of_yours_is_not_reproduced_and_named(
    folders: tuple[Path, Path],
) -> None:
    evaluated(folders[0], AP=0.31)

    table = compare_runs(*folders)

    assert table.set_index("number").loc[AP, "verdict"] == "not reproduced"
    assert in_words(table).endswith(f"3 of 4 numbers reproduced; not reproduced: {AP}")


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"persons": 415}, "other persons"),
        ({"input": "256x192"}, "other input"),
        ({"runtime": "openvino-int8"}, "other runtime"),
        ({"flip": False}, "not made"),
    ],
)
def test_another_protocol_is_not_judged(
    changes: dict, verdict: str, folders: tuple[Path, Path]
) -> None:
    evaluated(folders[0], **changes)

    assert verdicts(folders)[AP] == verdict


def test_a_training_by_another_recipe_is_not_judged(folders: tuple[Path, Path]) -> None:
    for root, epochs in zip(folders, (1, 5), strict=True):
        config = {"epochs": epochs, "threads": epochs, "lr": 3e-3}  # threads change no result
        write_json(root / "train/ours-seed0/run.json", {"config": config})

    assert verdicts(folders)[AP] == "other epochs"


def test_an_evaluation_of_other_weights_than_yours_is_not_judged(
    folders: tuple[Path, Path],
) -> None:
    yours, _ = folders
    told = {"weights": "results/p/train/ours-seed0/best.safetensors sha256:aa"}
    write_json(yours / "evaluate/ours-seed0/run.json", {"inputs": told})
    write_json(yours / "train/ours-seed0/run.json", {"weights": {"best.safetensors": "bb"}})

    assert verdicts(folders)[AP] == "other weights"


@pytest.mark.parametrize("content", ["", "old name\n1\n"])
@pytest.mark.parametrize(
    "name",
    [
        *("evaluate/ours-seed0/protocols.csv", "ablations/comparison.csv"),
        "speed/counting-256x192.csv",
    ],
)
def test_a_table_of_another_version_counts_as_not_made(
    name: str, content: str, folders: tuple[Path, Path]
) -> None:
    (folders[0] / name).write_text(content)

    assert "not made" in verdicts(folders).values()


def test_the_speed_of_the_fastest_peer_is_not_compared(folders: tuple[Path, Path]) -> None:
    for root in folders:
        told = {"model": "ours", "int8_fastest_peer": "x", "int8_fastest_peer_FPS": 9.0}
        write_json(root / "speed/metrics.json", told)

    assert not any("peer" in number for number in verdicts(folders))


def test_a_difference_that_changes_its_sign_is_said(folders: tuple[Path, Path]) -> None:
    compared(folders[0], -0.001)

    assert verdicts(folders)["ours minus mse, AP"] == "sign changed"


@pytest.mark.parametrize(
    ("fps", "cpu", "verdict"),
    [
        (60.0, "A CPU", "reproduced"),
        (64.0, "A CPU", "not reproduced"),
        (64.0, "Another", "other machine"),
        (50.0, "Another", "other machine"),
    ],
)
def test_speed_is_judged_on_the_same_machine_only(
    fps: float, cpu: str, verdict: str, folders: tuple[Path, Path]
) -> None:
    timed(folders[0], fps, cpu)

    assert verdicts(folders)["speed: ours, fused FPS"] == verdict


def test_counts_must_be_equal(folders: tuple[Path, Path]) -> None:
    timed(folders[0], 50.0, parameters=3077881)

    assert verdicts(folders)["speed: ours, parameters"] == "not reproduced"


def test_what_was_not_made_is_said(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    (tmp_path / "empty").mkdir()

    assert set(compare_runs(tmp_path / "empty", folders[1])["verdict"]) == {"not made"}


def test_pck_has_the_binomial_interval_over_persons(tmp_path: Path) -> None:
    row = {name: value for name, value in ROW.items() if not name.startswith("AP")}
    for root, value in ((tmp_path / "own", 0.36), (tmp_path / "published", 0.333)):
        write_table(root / "evaluate/lsp-seed0/protocols.csv", [{**row, "PCK": value}])

    (line,) = compare_runs(tmp_path / "own", tmp_path / "published").to_dict("records")

    assert line["high"] - line["published"] == pytest.approx(0.0453, abs=1e-4)
    assert line["verdict"] == "reproduced"


def test_a_missing_folder_is_named_with_the_remedy(folders: tuple[Path, Path]) -> None:
    with pytest.raises(HwlError, match="gone is not there: `make reproduce PROFILE=gone`"):
        compare_runs(Path("gone"), folders[1])


def test_nothing_published_is_said(folders: tuple[Path, Path]) -> None:
    table = compare_runs(folders[0], Path("gone"))

    assert "Nothing is published" in in_words(table)

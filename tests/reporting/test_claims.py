"""The paper's claims beside what runs measured, and verdicts that no run has overstated."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from hwl.files import write_json
from hwl.reporting.claims import claims
from hwl.speed.coco_size import DETECTIONS


def verdict(runs: Path, claim: str) -> tuple[str, str]:
    row = claims(runs).set_index("claim").loc[claim]
    return row["here"], row["verdict"]


def write(path: Path, *rows: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(path, index=False)


@pytest.mark.parametrize(
    ("mmcv", "expected"), [(580.0, "confirmed, counted"), (650.0, "not confirmed")]
)
def test_size_is_confirmed_by_the_counter_that_gives_the_papers_figure(
    mmcv: float, expected: str, tmp_path: Path
) -> None:
    row = {"model": "ours", "parameters": 3077882, "mmcv count (M)": mmcv, "conv MACs (M)": 559.0}
    write(tmp_path / "speed/counting-256x192.csv", row)

    here, said = verdict(tmp_path, "the model is small")

    assert said == expected and "3,077,882 parameters" in here


@pytest.mark.parametrize(
    ("persons", "ap", "expected"),
    [
        (490, 0.658, "not tested"),
        (DETECTIONS, 0.655, "confirmed"),
        (DETECTIONS, 0.6, "not con"),
    ],
)
def test_accuracy_is_judged_on_coco_alone(
    persons: int, ap: float, expected: str, tmp_path: Path
) -> None:
    row = {"boxes": "detected", "flip": True, "input": "256x192", "persons": persons, "AP": ap}
    write(tmp_path / "evaluate/ours-seed0/protocols.csv", row)
    write_json(tmp_path / "evaluate/ours-seed0/run.json", {"config": {"data": "data/puppets"}})

    here, said = verdict(tmp_path, "it is accurate for its size")

    assert said.startswith(expected) and f"AP {ap:.3f}" in here


def test_accuracy_is_the_mean_of_ours_and_of_no_other_variant(tmp_path: Path) -> None:
    row = {"boxes": "detected", "flip": True, "input": "256x192", "persons": DETECTIONS}
    for name, ap in (("attention-cbam-seed0", 0.7), ("ours-seed0", 0.65), ("ours-seed1", 0.66)):
        write(tmp_path / f"evaluate/{name}/protocols.csv", {**row, "AP": ap})
        write_json(tmp_path / f"evaluate/{name}/run.json", {"config": {"data": "data/coco"}})

    here, said = verdict(tmp_path, "it is accurate for its size")

    assert (here, said) == ("AP 0.655 (2 seeds)", "confirmed")


def test_what_a_killed_run_left_makes_no_claim(tmp_path: Path) -> None:
    row = {
        "boxes": "detected",
        "flip": True,
        "input": "256x192",
        "persons": DETECTIONS,
        "AP": 0.7,
    }
    write(tmp_path / "evaluate/ours-seed0.partial/protocols.csv", row)

    assert verdict(tmp_path, "it is accurate for its size")[1] == "not tested here"


@pytest.mark.parametrize(
    ("difference", "noise", "expected"),
    [
        (0.02, "beyond noise", "confirmed here"),
        (-0.02, "beyond noise", "not confirmed: MSE is ahead"),
        (0.02, "within noise", "not confirmed: within noise"),
        (0.02, "one pair: cannot tell from noise", "not confirmed: one pair"),
    ],
)
def test_the_loss_is_ahead_only_beyond_noise(
    difference: float, noise: str, expected: str, tmp_path: Path
) -> None:
    row = {
        "variant": "ours",
        "seeds": 3,
        "pairs": 3,
        "difference to mse": difference,
        "verdict": noise,
    }
    write(tmp_path / "ablations/comparison.csv", row)

    assert verdict(tmp_path, "weighting by the target heatmap beats MSE")[1].startswith(expected)


def timed(run: Path, threads: int = 1, **fps: float) -> None:
    """A run that timed models in eager PyTorch at batch 1."""
    where = {"device": "cpu", "threads": threads, "batch": 1}
    same = {"runtime": "eager", "precision": "float32", "times eager": 1.0, "of peak_rate": 0.5}
    rows = [{"model": model, "FPS": value, **where, **same} for model, value in fps.items()]
    write(run / "latencies-256x192-a.csv", *rows)
    write(run / "peak_rate-256x192-a.csv", {**where, "GFLOP/s": 60.0})


def test_speeds_of_another_setting_or_of_more_threads_are_not_mixed_in(tmp_path: Path) -> None:
    timed(tmp_path / "speed", ours=10.0, mobilenetv2=8.0)
    timed(tmp_path / "speed-compile", ours=20.0)
    timed(tmp_path / "speed-two", threads=2, ours=30.0, mobilenetv2=1.0, vipnas_mbv3=1.0)

    here, _ = verdict(tmp_path, "it is fast on a CPU")

    assert here.startswith("10.0 FPS in eager PyTorch on one thread; 1.2 to 1.2 times")


def test_a_speed_of_two_threads_alone_is_no_test(tmp_path: Path) -> None:
    timed(tmp_path / "speed", threads=2, ours=30.0, mobilenetv2=1.0)

    assert verdict(tmp_path, "it is fast on a CPU") == ("not timed", "not tested here")


def test_speed_is_the_median_of_runs_with_their_range(tmp_path: Path) -> None:
    for run, fps in (("speed", 30.0), ("speed-run2", 34.0), ("speed-run3", 31.0)):
        timed(tmp_path / run, ours=fps, mobilenetv2=15.5)

    here, said = verdict(tmp_path, "it is fast on a CPU")

    assert "31.0 FPS (30.0 to 34.0 in 3 runs)" in here and "2.0 to 2.0 times" in here
    assert said == "confirmed, in another order: ahead of mobilenetv2 too"


@pytest.mark.parametrize(
    ("peer", "fps", "expected"),
    [
        ("vipnas_mbv3", 9.0, "confirmed: the paper's order"),
        ("mobilenetv2", 11.0, "confirmed: the paper's order"),
        ("vipnas_mbv3", 11.0, "not confirmed: another order"),
    ],
)
def test_speed_is_confirmed_in_the_papers_order(
    tmp_path: Path, peer: str, fps: float, expected: str
) -> None:
    timed(tmp_path / "speed", ours=10.0, **{peer: fps})

    assert verdict(tmp_path, "it is fast on a CPU")[1] == expected

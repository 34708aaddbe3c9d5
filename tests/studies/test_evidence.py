"""The evidence experiment on made-up runs: pilot, pairs, what does not compare, what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from msgspec.structs import replace
from scipy import stats

from hwl.errors import HwlError
from hwl.evaluation.persons import Persons, write_persons
from hwl.reporting import evidence_figures as figures
from hwl.reporting.paper_and_here import paper_and_here
from hwl.studies import evidence
from hwl.studies.design import Design, read_design
from hwl.studies.gathering import gather
from hwl.studies.paired import seeds_needed

from ..pinned_counts import PINNED

PERSONS = 30
# Mean OKS of each arm's seeds; the persons vary around it.
MEANS = {
    "zero": [0.60, 0.62, 0.61, 0.63],
    "identity": [0.63, 0.66, 0.63, 0.67],
    "dense": [0.65, 0.64],
}


@pytest.fixture
def design() -> Design:
    def stage(name: str, arms: list[str], seeds: int, compare: list, **more: int) -> dict:
        told = {"name": name, "setting": "puppets", "core_hours": 1, "seeds": seeds, **more}
        return told | {"arms": {arm: {} for arm in arms}, "compare": compare}

    content = {
        **{"profile": "small", "core_hours": 20, "puppets": {}, "trace": []},
        "settings": {"puppets": {"train": {"data": "data/puppets"}, "test": {}}},
        "stages": [
            stage("main", ["zero", "identity"], 5, [["identity", "zero"]], pilot=3),
            stage("head", ["dense"], 3, [["identity", "dense"]]),
            stage("costly", ["double"], 100, [["double", "zero"]]),
        ],
    }
    return read_design(content, "small.yaml")


def write_run(runs: Path, arm: str, seed: int, mean: float, **changes: object) -> None:
    """An evaluation with persons around a mean, and the training that it tells of."""
    folder = runs / "evaluate" / f"{arm}-seed{seed}"
    folder.mkdir(parents=True)
    noise = 0.05 * np.random.default_rng([seed, len(arm)]).standard_normal(PERSONS)
    ids = np.arange(PERSONS)
    oks = (mean + noise - noise.mean()).astype(np.float32)
    write_persons(folder / "persons.npz", Persons(ids, ids // 2, oks))
    errors = pd.DataFrame({"keypoint": ["nose", "knee"], "median error": [0.1, 0.2 + seed]})
    errors.to_csv(folder / "keypoints.csv", index=False)
    told = {"bin": [1, 2], "height": [0.2, 0.8 + seed], "median error": [0.3, 0.1]}
    reliability = pd.DataFrame(told | {"keypoints": [9, 9], "rank correlation": [-0.5, -0.5]})
    reliability.to_csv(folder / "reliability.csv", index=False)
    protocol = {"boxes": "ground-truth", "flip": True, "input": "128x96", "images": 15}
    numbers = {"OKS": float(mean), "AP": mean - 0.1, "persons": PERSONS}
    (folder / "metrics.json").write_text(json.dumps(protocol | numbers))
    run = {
        "config": {"split": "val2017", "limit": 0},
        "inputs": {"annotations": "val.json sha256:1", "weights": f"last sha256:{seed}"},
        "trained": {"data": "data/puppets", "precision": "no", "epochs": 2},
        "git": {"commit": "abc", "dirty": False},
        "hardware": {"cpu": "a CPU"},
    }
    run["trained"] |= changes.pop("trained", {})
    (folder / "run.json").write_text(json.dumps(run | changes))
    (trained := runs / "train" / folder.name).mkdir(parents=True)
    (trained / "run.json").write_text(json.dumps(run | {"inputs": {"train": "sha256:2"}}))
    history = pd.DataFrame({"epoch": [1, 2], "OKS": [mean / 2, mean], "seconds": [3.0, 4.0]})
    history.to_csv(trained / "history.csv", index=False)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for arm, means in MEANS.items():
        for seed, mean in enumerate(means):
            write_run(tmp_path, arm, seed, mean)
    return tmp_path


def test_the_pilot_tells_the_spread_and_the_seeds_and_no_difference(
    design: Design, runs: Path
) -> None:
    found = evidence.pilot(design, runs)

    spread = np.std([0.03, 0.04, 0.02], ddof=1)
    assert found["spread"] == {"identity - zero": pytest.approx(spread)}
    assert found["seeds"] == min(seeds_needed(spread), 5)
    assert set(found) == {"seeds", "pilot", "spread"}


def test_the_pilot_needs_all_of_its_runs(design: Design, runs: Path) -> None:
    (runs / "evaluate/zero-seed1/metrics.json").unlink()

    with pytest.raises(HwlError, match="the pilot needs seeds 0 to 2 of identity, zero"):
        evidence.pilot(design, runs)


def test_a_comparison_is_students_over_the_common_seeds(design: Design, runs: Path) -> None:
    table = evidence.comparisons(design, gather(runs / "evaluate", design.arms()))

    main, head = (row for _, row in table.iterrows())
    expected = stats.ttest_rel(MEANS["identity"], MEANS["zero"])
    interval = expected.confidence_interval()
    assert (main["low"], main["high"]) == pytest.approx((interval.low, interval.high))
    assert main["p"] == main["p_holm"] == pytest.approx(expected.pvalue)
    assert main["verdict"] == "undecided: 4 of 5 seeds" and main["pairs"] == 4
    assert main["boot_low"] < main["difference"] < main["boot_high"]
    assert head["pairs"] == 2 and head["difference"] == pytest.approx(0.0)
    assert head["verdict"] == "undecided: 2 of 3 seeds"
    assert main["AP_difference"] == pytest.approx(main["difference"])


@pytest.mark.parametrize(
    ("seeds", "effect", "verdict"),
    [
        (11, 0.1, "undecided: 11 of 14 seeds"),
        (12, 0.1, "supported"),
        (12, 0.0008, "undecided: 12 of 14 seeds"),  # p 0.015
        (14, 0.0008, "supported"),
    ],
)
def test_main_arms_are_compared_at_the_seeds_of_all_and_decided_early_only_by_a_small_p(
    design: Design, tmp_path: Path, seeds: int, effect: float, verdict: str
) -> None:
    for seed in range(14):
        write_run(tmp_path, "zero", seed, 0.6 + 0.001 * (-1) ** seed)
        write_run(tmp_path, "identity", seed, 0.6 + effect)
    for seed in range(seeds):
        write_run(tmp_path, "placebo", seed, 0.6)
    arms = {"zero": {}, "identity": {}, "placebo": {}}
    three = replace(design, stages=[replace(design.stages[0], arms=arms, seeds=14)])

    found = evidence.comparisons(three, gather(tmp_path / "evaluate", three.arms()))

    assert (found["pairs"].item(), found["verdict"].item()) == (seeds, verdict)


@pytest.mark.parametrize(
    ("changes", "column"),
    [
        ({"inputs": {"annotations": "val.json sha256:9"}}, "test_inputs"),
        ({"config": {"split": "train2017", "limit": 0}}, "test_split"),
        ({"trained": {"precision": "bf16"}}, "precision"),
        ({"trained": {"data": "data/coco"}}, "train_data"),
    ],
)
def test_runs_of_other_data_or_precision_do_not_compare(
    changes: dict, column: str, design: Design, runs: Path
) -> None:
    write_run(runs, "zero", 9, 0.9)
    write_run(runs, "identity", 9, 0.9, **changes)

    with pytest.raises(HwlError, match=f"differ in '{column}'.*identity-seed9"):
        evidence.comparisons(design, gather(runs / "evaluate", design.arms()))


def test_images_drawn_on_two_processors_compare_within_each_seed(
    design: Design, runs: Path
) -> None:
    elsewhere = {"inputs": {"annotations": "val.json sha256:1", "images": "2 files sha256:other"}}
    write_run(runs, "identity", 4, 0.67, **elsewhere)
    write_run(runs, "zero", 4, 0.63, **elsewhere)

    table = evidence.comparisons(design, gather(runs / "evaluate", design.arms()))

    assert table.iloc[0]["pairs"] == 5


def test_a_seed_tested_on_two_sets_of_images_does_not_compare(design: Design, runs: Path) -> None:
    inputs = {"annotations": "val.json sha256:1"}
    write_run(runs, "identity", 4, 0.67, inputs=inputs | {"images": "2 files sha256:other"})
    write_run(runs, "zero", 4, 0.63, inputs=inputs | {"images": "2 files sha256:same"})

    with pytest.raises(HwlError, match="differ in 'test_images'"):
        evidence.comparisons(design, gather(runs / "evaluate", design.arms()))


def test_what_is_missing_is_named(design: Design, runs: Path) -> None:
    found = gather(runs / "evaluate", design.arms())

    assert evidence.missing(design, found, seeds=4) == [
        "dense: seed 2",
        "stage costly: its 100.0 core-hours would pass the budget of 20",
    ]
    assert evidence.missing(design, found, seeds=6)[:2] == [
        "zero: seeds 4, 5",
        "identity: seeds 4, 5",
    ]


def test_runs_come_in_the_designs_order_and_seeds_by_their_number(
    design: Design, tmp_path: Path
) -> None:
    for arm, seed in (("dense", 0), ("identity", 10), ("identity", 9), ("zero", 0)):
        write_run(tmp_path, arm, seed, 0.6)

    table = gather(tmp_path / "evaluate", design.arms()).table

    found = list(zip(table["arm"], table["seed"], strict=True))
    assert found == [("zero", 0), ("identity", 9), ("identity", 10), ("dense", 0)]


def test_runs_of_several_commits_are_told(design: Design, runs: Path) -> None:
    write_run(runs, "dense", 2, 0.6, git={"commit": "def", "dirty": False})

    lines = evidence.missing(design, gather(runs / "evaluate", design.arms()), 5)

    assert "one commit of all runs: 'commit' is abc, def" in lines


def test_each_run_is_a_row_with_its_origin(design: Design, runs: Path) -> None:
    table = gather(runs / "evaluate", design.arms()).table

    assert len(table) == sum(map(len, MEANS.values()))
    assert set(table["commit"]) == {"abc"} and table["clean"].all()
    assert set(table["train_seconds"]) == {7} and set(table["cpu"]) == {"a CPU"}


def test_reliability_is_the_mean_over_the_seeds_of_an_arm(runs: Path) -> None:
    table = evidence.reliability(runs, ["identity", "zero"])

    assert table["arm"].tolist() == ["identity", "identity", "zero", "zero"]
    assert table["height"].tolist() == pytest.approx([0.2, 0.8 + 1.5] * 2)
    assert table["median_error"].tolist() == pytest.approx([0.3, 0.1] * 2)
    assert set(table["rank_correlation"]) == {-0.5}


def test_keypoints_have_their_mean_error_and_spread_over_seeds(runs: Path) -> None:
    table = evidence.keypoint_errors(runs, ["zero"]).set_index("keypoint")

    assert table.loc["nose", ["median_error", "median_error_sd"]].tolist() == [0.1, 0]
    spread = np.std([0, 1, 2, 3], ddof=1)
    found = table.loc["knee", ["median_error", "median_error_sd"]].tolist()
    assert found == pytest.approx([1.7, spread])


def test_an_arm_has_the_mean_over_its_keypoints_errors(design: Design, runs: Path) -> None:
    found = evidence.with_errors(gather(runs / "evaluate", design.arms()), runs)

    means = evidence.arm_means(found).set_index("arm")
    assert means.loc["dense", "median_error"] == pytest.approx((0.15 + 0.65) / 2)


def test_curves_have_every_epoch_of_every_run(runs: Path) -> None:
    curves = evidence.curves(runs, ["zero", "identity"])

    assert len(curves) == 8 * 2
    last = curves[(curves["arm"] == "identity") & (curves["epoch"] == 2)]
    assert last["OKS"].tolist() == MEANS["identity"]


def test_the_figures_show_every_comparison_and_arm(design: Design, runs: Path) -> None:
    found = gather(runs / "evaluate", design.arms())
    forest = figures.forest_plot(evidence.comparisons(design, found), "conditions")
    bands = figures.learning_bands(
        evidence.curves(runs, ["zero", "identity"]), "OKS", ["zero", "identity"], "conditions"
    )

    labels = [label.get_text() for label in forest.axes[0].get_yticklabels()]
    assert labels == ["identity - zero (4 of 5 pairs)", "identity - dense (2 of 3 pairs)"]
    stages = [text.get_text().strip() for text in forest.axes[0].texts]
    conditions = f"15 images, {PERSONS} persons"
    assert stages == [f"main: puppets, {conditions}", f"head: puppets, {conditions}"]
    line = bands.axes[0].get_lines()[1]
    assert line.get_ydata() == pytest.approx([np.mean(MEANS["identity"]) / f for f in (2, 1)])


ROW = {"verdict": "supported", "data": "puppets", "input": "128x96", "pairs": 12, "planned": 12}
ROW |= {"difference": 0.002, "low": 0.001, "high": 0.003, "p": 0.01, "p_holm": 0.01}
ROW |= {"boot_low": 0.001, "boot_high": 0.003}
UNSURE = {"low": -0.006, "high": 0.01, "verdict": "within +-1.0 points", "p_holm": 0.5}
OVER_IMAGES = "over seeds and images together -0.10 to +0.50, which says otherwise"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {},
            "+0.20 points of mean OKS on puppets at 128x96, 95 % interval +0.10 to +0.30 over 12 "
            "pairs, Holm's p 0.01",
        ),
        ({"planned": 24}, "over 12 of 24 pairs"),
        ({"planned": 24}, "; p is 0.01, and with seeds to come it decides below 0.001"),
        ({"p_holm": 0.06}, "Holm's p 0.06, which is within noise after Holm"),
        ({**UNSURE, "boot_low": -0.007}, "Holm's p 0.5; 0.5 points are not excluded"),
        ({"boot_low": -0.001, "boot_high": 0.005}, OVER_IMAGES),
        ({"boot_low": np.nan, "boot_high": np.nan}, "Holm's p 0.01"),
    ],
)
def test_a_comparison_is_told_with_its_conditions_and_reservations(
    changes: dict, expected: str
) -> None:
    (row,) = pd.DataFrame([ROW | changes]).itertuples()

    said = evidence.sentence(row)
    assert expected in said
    assert ("says otherwise" in said) == ("says otherwise" in expected)


def test_the_page_tells_verdicts_of_what_was_measured_and_commands_of_the_rest(
    design: Design, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hwl.speed.counting.count", lambda m, size: PINNED[m.config["name"], size])
    compared = evidence.comparisons(design, gather(runs / "evaluate", design.arms()))

    page = paper_and_here(compared, published=tmp_path).set_index("claim")

    assert page.loc["weighting by the target heatmap beats MSE", "verdict"].startswith("undecided")
    assert page.loc["F(G) = 2G, an alternative, beats MSE", "verdict"] == "not made yet"
    assert page.loc["parameters", "here"] == "3,077,882"
    assert page.loc["GFLOPs of ours, 384x288", "verdict"] == "supported"
    assert page.loc["GFLOPs of vipnas_mbv3, 256x192", "verdict"] == "contradicted"
    assert page.loc["GFLOPs of litehrnet18, 256x192", "verdict"].startswith("supported, by another")
    assert page["command"].str.len().gt(0).all()


def test_the_papers_order_on_a_cpu_is_told_beside_medians_over_published_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hwl.reporting.paper_and_here._counts", lambda: [])  # they take seconds
    where = {"device": "cpu", "threads": 1, "batch": 1}
    for run, ours in ("speed", 40.0), ("speed-run2", 50.0), ("speed-run3", 30.0):
        (tmp_path / "speed" / run).mkdir(parents=True)
        rows = [
            {"model": name, "runtime": "eager", "precision": "float32", **where, "FPS": fps}
            | {"times eager": 1.0, "of peak_rate": 0.3}
            for name, fps in (("ours", ours), ("mobilenetv2", 20.0))
        ]
        folder = tmp_path / "speed" / run
        pd.DataFrame(rows).to_csv(folder / "latencies-256x192-a.csv", index=False)
        rates = pd.DataFrame([{**where, "GFLOP/s": 170.0}])
        rates.to_csv(folder / "peak_rate-256x192-a.csv", index=False)

    page = paper_and_here(pd.DataFrame(), published=tmp_path).set_index("claim")

    row = page.loc["on a CPU ours is slower than mobilenetv2"]
    assert row["here"].startswith("2.00 times") and row["verdict"] == "contradicted"
    assert page.loc["on a CPU ours is faster than litehrnet18", "verdict"] == "not made yet"

"""Ablations: which runs are compared, and the paired verdict against the formula by hand."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path

import pytest
from scipy import stats

from hwl.errors import HwlError
from hwl.studies.ablations import AblationConfig, collect, compare
from hwl.studies.gathering import gather

PROTOCOL = {
    **{"boxes": "detected", "flip": True, "decode": "quarter-pixel", "input": "256x192"},
    **{"images": 200, "persons": 300},
}
VALUES = {
    "mse": [0.600, 0.620, 0.610],
    "ours": [0.650, 0.670, 0.655, 0.660],
    "no-attention": [0.610, 0.630, 0.605],
    "dense-head": [0.700],
}


def config(runs: Path, **changes: object) -> AblationConfig:
    return AblationConfig(output="run", runs=str(runs), **{"variants": list(VALUES), **changes})


def write_run(runs: Path, name: str, metrics: dict[str, object]) -> None:
    (runs / name).mkdir(parents=True)
    (runs / name / "metrics.json").write_text(json.dumps(metrics))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Evaluated runs with the values above, and one that is not compared."""
    tmp_path = tmp_path / "evaluate"
    for variant, values in VALUES.items():
        for seed, value in enumerate(values):
            numbers = {"AP": value, "AP_low": value - 0.01, "AP_high": value + 0.01}
            numbers["AR"] = value + 0.1
            write_run(tmp_path, f"{variant}-seed{seed}", PROTOCOL | numbers)
    write_run(tmp_path, "coco-seed0", {"AP": 0.5, "input": "384x288"})
    return tmp_path


def paired(a: list[float], b: list[float]) -> tuple[float, float]:
    """95 % interval of the mean difference of the seeds that both have, from the textbook."""
    differences = [x - y for x, y in zip(a, b, strict=False)]
    count = len(differences)
    reach = stats.t.ppf(0.975, count - 1) * statistics.stdev(differences) / math.sqrt(count)
    mean = statistics.mean(differences)
    return mean - reach, mean + reach


def test_every_run_of_the_variants_is_a_row_with_its_protocol(runs: Path) -> None:
    table = collect(config(runs))

    found = {name: group["AP"].tolist() for name, group in table.groupby("variant")}
    assert found == VALUES
    assert table.loc[table["variant"] == "ours", "seed"].tolist() == [0, 1, 2, 3]
    for name, value in PROTOCOL.items():
        assert set(table[name]) == {value}
    assert {"AP_low", "AP_high"} <= set(table) and "AR" not in table


@pytest.mark.parametrize("variant", ["ours", "no-attention"])
def test_a_difference_and_its_interval_are_those_of_pairs(variant: str, runs: Path) -> None:
    table = compare(collect(config(runs)), config(runs)).set_index("variant")

    low, high = paired(VALUES[variant], VALUES["mse"])
    row = table.loc[variant]
    assert row["difference to mse"] == pytest.approx((low + high) / 2)
    assert (row["95 % low"], row["95 % high"]) == pytest.approx((low, high))
    assert row["mean AP"] == pytest.approx(statistics.mean(VALUES[variant]))
    assert (row["seeds"], row["pairs"]) == (len(VALUES[variant]), 3)


def test_each_variant_gets_its_verdict_best_first(runs: Path) -> None:
    table = compare(collect(config(runs)), config(runs))

    assert list(zip(table["variant"], table["verdict"], strict=True)) == [
        ("dense-head", "one pair: cannot tell from noise"),
        ("ours", "beyond noise"),
        ("no-attention", "within noise"),
        ("mse", "baseline"),
    ]


def test_a_difference_to_the_worse_is_beyond_noise_too(runs: Path) -> None:
    settings = config(runs, baseline="ours")

    table = compare(collect(settings), settings).set_index("variant")

    assert table.loc["mse", "verdict"] == "beyond noise"
    assert table.loc["mse", "95 % high"] < 0


def test_another_metric_can_be_compared(runs: Path) -> None:
    settings = config(runs, metric="AR")

    table = compare(collect(settings), settings).set_index("variant")

    assert table.loc["mse", "mean AR"] == pytest.approx(0.61 + 0.1)


def test_a_baseline_without_runs_is_named(runs: Path) -> None:
    settings = config(runs, baseline="msee")

    with pytest.raises(HwlError, match="'baseline': 'msee' is not one of dense-head, mse, no-"):
        compare(collect(settings), settings)


@pytest.mark.parametrize(
    ("column", "value"),
    [("boxes", "ground-truth"), ("flip", False), ("input", "384x288"), ("images", 100)],
)
def test_runs_of_differing_protocols_do_not_compare(column: str, value: object, runs: Path) -> None:
    write_run(runs, "ours-seed9", PROTOCOL | {"AP": 0.7, column: value})

    with pytest.raises(HwlError, match=f"differ in '{column}' and do not compare"):
        collect(config(runs))


def test_variants_without_a_seed_in_common_are_said_to_be_so(runs: Path) -> None:
    write_run(runs, "other-seed7", PROTOCOL | {"AP": 0.7})
    settings = config(runs, variants=["mse", "other"])

    table = compare(collect(settings), settings).set_index("variant")

    assert table.loc["other", "verdict"] == "no seed in common"
    assert math.isnan(table.loc["other", "difference to mse"])


def test_a_variant_without_a_run_is_named(runs: Path) -> None:
    with pytest.raises(HwlError, match=r"no evaluated run <variant>-seed<seed> of cbam: "):
        collect(config(runs, variants=["mse", "ours", "cbam"]))


@pytest.mark.parametrize(
    ("record", "column"),
    [
        ({"inputs": {"annotations": "val.json sha256:2"}}, "test_inputs"),
        ({"config": {"split": "test"}, "inputs": {"annotations": "val.json sha256:1"}}, "split"),
        ({"trained": {"precision": "bf16"}}, "precision"),
    ],
)
def test_runs_of_other_data_or_precision_do_not_compare(
    record: dict[str, object], column: str, runs: Path
) -> None:
    for path in runs.glob("*/metrics.json"):
        same = {"config": {"split": "val"}, "inputs": {"annotations": "val.json sha256:1"}}
        path.with_name("run.json").write_text(json.dumps(same | {"trained": {"precision": "no"}}))
    changed = {"config": {"split": "val"}, "inputs": {"annotations": "val.json sha256:1"}}
    changed |= {"trained": {"precision": "no"}} | record
    (runs / "ours-seed1" / "run.json").write_text(json.dumps(changed))

    with pytest.raises(HwlError, match=f"differ in '.*{column}' and do not compare"):
        collect(config(runs))


def test_runs_of_one_variant_by_two_recipes_do_not_compare(runs: Path) -> None:
    for seed, epochs in enumerate((5, 5, 6)):
        told = {"trained": {"epochs": epochs}}
        (runs / f"mse-seed{seed}" / "run.json").write_text(json.dumps(told))

    with pytest.raises(HwlError, match=r"differ in 'epochs' .*mse-seed0 has '5.*mse-seed2 '6"):
        collect(config(runs))


@pytest.fixture
def trainings(runs: Path) -> Path:
    """The folder with the trainings of the runs, which say what they left and in what precision."""
    for path in runs.glob("*-seed*/metrics.json"):
        told = {"inputs": {"weights": "w sha256:aa"}, "trained": {"precision": "auto"}}
        path.with_name("run.json").write_text(json.dumps(told))
        folder = runs.parent / "train" / path.parent.name
        folder.mkdir(parents=True)
        left = {"weights": {"best.safetensors": "aa"}, "precision": "no"}
        (folder / "run.json").write_text(json.dumps(left))
    return runs.parent / "train"


def test_what_auto_was_is_told_and_must_be_alike(runs: Path, trainings: Path) -> None:
    assert set(gather(runs, ["ours"]).table["precision"]) == {"no"}

    left = {"weights": {"best.safetensors": "aa"}, "precision": "bf16"}
    (trainings / "ours-seed1" / "run.json").write_text(json.dumps(left))

    with pytest.raises(HwlError, match="differ in 'precision'"):
        collect(config(runs))


def test_an_evaluation_of_other_weights_than_its_training_left_is_refused(
    runs: Path, trainings: Path
) -> None:
    left = {"weights": {"best.safetensors": "bb"}, "precision": "no"}
    (trainings / "ours-seed1" / "run.json").write_text(json.dumps(left))

    with pytest.raises(HwlError, match=r"ours-seed1 is of other weights than .* make it again"):
        collect(config(runs))


def test_no_run_at_all_is_an_error_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(HwlError, match=r"no evaluated run .*`make reproduce`"):
        collect(config(tmp_path))


def test_a_run_without_the_metric_is_named(runs: Path) -> None:
    with pytest.raises(HwlError, match=r"mse-seed0/metrics\.json has no 'PCKh'"):
        collect(config(runs, metric="PCKh"))


def test_what_a_killed_evaluation_left_is_no_run(runs: Path) -> None:
    write_run(runs, "ours-seed9.partial", PROTOCOL | {"AP": 0.1, "flip": False})

    assert set(collect(config(runs))["seed"]) == {0, 1, 2, 3}

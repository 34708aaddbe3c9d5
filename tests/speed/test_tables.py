"""Tables that follow from latencies, against numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hwl import paper
from hwl.errors import HwlError
from hwl.files import write_json
from hwl.speed.tables import (
    best_batches,
    headline,
    measured_accuracy,
    paper_figure_points,
    stage_choice,
    times_peers,
    with_ratios,
)

PRECISION = {"eager": "float32", "fused": "float32", "openvino": "float32"}


def rows(*entries: tuple) -> pd.DataFrame:
    """Latencies from (model, runtime, device, threads, batch, ms an image)."""
    names = ["model", "runtime", "device", "threads", "batch", "median_ms"]
    table = pd.DataFrame(entries, columns=names)
    precision = table["runtime"].map(PRECISION).fillna("int8")
    return table.assign(FPS=1000 / table["median_ms"], precision=precision)


TIMES = rows(
    ("ours", "eager", "cpu", 1, 1, 40.0),
    ("ours", "fused", "cpu", 1, 1, 25.0),
    ("ours", "openvino", "cpu", 1, 1, 20.0),
    ("ours", "openvino-int8", "cpu", 1, 1, 10.0),
    ("vipnas_mbv3", "eager", "cpu", 1, 1, 60.0),
    ("vipnas_mbv3", "openvino-int8", "cpu", 1, 1, 12.0),
    ("litehrnet18", "eager", "cpu", 1, 1, 90.0),
    ("litehrnet18", "openvino-int8", "cpu", 1, 1, 50.0),
    ("ours", "eager", "cpu", 1, 8, 30.0),
    ("ours", "fused", "cpu", 1, 8, 26.0),
    ("ours", "openvino", "cpu", 1, 8, 24.0),
    ("ours", "openvino-int8", "cpu", 1, 8, 5.0),
    ("ours", "eager", "cpu", 2, 1, 22.0),
    ("ours", "openvino", "cpu", 2, 1, 11.0),
)
ROOFLINE = pd.DataFrame(
    [("cpu", 1, 1, 100.0), ("cpu", 1, 8, 80.0), ("cpu", 2, 1, 200.0)],
    columns=["device", "threads", "batch", "GFLOP/s"],
)
MACS = {"ours": 500_000_000, "vipnas_mbv3": 700_000_000, "litehrnet18": 200_000_000}


def test_ratios_are_those_of_the_same_setting() -> None:
    found = with_ratios(TIMES, ROOFLINE, MACS)

    pd.testing.assert_frame_equal(found[TIMES.columns], TIMES)
    rates = {(r.device, r.threads, r.batch): r[-1] for r in ROOFLINE.itertuples(index=False)}
    for row in found.to_dict("records"):
        setting = (row["device"], row["threads"], row["batch"])
        (eager,) = [
            other["median_ms"]
            for other in TIMES.to_dict("records")
            if other["runtime"] == "eager"
            and other["model"] == row["model"]
            and (other["device"], other["threads"], other["batch"]) == setting
        ]
        assert row["times eager"] == pytest.approx(eager / row["median_ms"])
        if row["precision"] == "int8":
            assert np.isnan(row["of peak_rate"])
        else:
            least_seconds = 2 * MACS[row["model"]] / (rates[setting] * 1e9)
            assert row["of peak_rate"] == pytest.approx(1000 * least_seconds / row["median_ms"])
    # 1 GFLOP at 100 GFLOP/s takes 10 ms, eager 40.
    assert found.loc[0, "of peak_rate"] == pytest.approx(0.25)


def test_without_eager_in_a_setting_there_is_no_ratio() -> None:
    alone = rows(("ours", "openvino", "cpu", 1, 1, 20.0))

    assert with_ratios(alone, ROOFLINE, MACS)["times eager"].isna().all()


def test_best_batch_is_that_of_most_images_a_second() -> None:
    found = best_batches(TIMES[TIMES["threads"] == 1])

    chosen = {(r.model, r.runtime, r.chosen): r.batch for r in found.itertuples()}
    assert chosen["ours", "fused", "batch 1"] == 1
    assert chosen["ours", "fused", "best batch"] == 1
    assert chosen["ours", "eager", "batch 1"] == 1
    assert chosen["ours", "eager", "best batch"] == 8
    assert len(found) == 8 + 8


def test_best_batch_is_sought_for_each_number_of_threads() -> None:
    table = rows(
        ("ours", "eager", "cpu", 1, 1, 3.0),
        ("ours", "eager", "cpu", 1, 8, 4.0),
        ("ours", "eager", "cpu", 2, 1, 2.0),
        ("ours", "eager", "cpu", 2, 8, 1.0),
    )

    best = best_batches(table).query("chosen == 'best batch'")

    assert dict(zip(best["threads"], best["batch"], strict=True)) == {1: 1, 2: 8}


def test_one_batch_alone_is_not_listed_twice() -> None:
    found = best_batches(TIMES[TIMES["batch"] == 1])

    assert set(found["chosen"]) == {"batch 1"} and len(found) == 10


def test_eager_the_fastest_float32_and_int8_go_the_end_to_end_at_their_best_batches() -> None:
    here = TIMES[TIMES["threads"] == 1]

    assert stage_choice(here) == {
        ("ours", "eager"): 8,
        ("ours", "openvino"): 1,
        ("ours", "openvino-int8"): 8,
        ("vipnas_mbv3", "eager"): 1,
        ("vipnas_mbv3", "openvino-int8"): 1,
        ("litehrnet18", "eager"): 1,
        ("litehrnet18", "openvino-int8"): 1,
    }


def test_the_headline_is_of_one_thread_and_batch_1() -> None:
    found = headline(with_ratios(TIMES, ROOFLINE, MACS))

    assert (found["threads"], found["batch"]) == (1, 1)
    assert found["float32_runtime"] == "openvino"
    assert found["float32_times_eager"] == pytest.approx(2)
    assert found["float32_of_peak_rate"] == pytest.approx(0.5)
    assert found["fused_times_eager"] == pytest.approx(1.6)
    assert found["int8_runtime"] == "openvino-int8"
    assert found["int8_times_eager"] == pytest.approx(4)
    assert found["int8_FPS"] == pytest.approx(100)
    assert found["int8_fastest_peer"] == "vipnas_mbv3"
    assert found["int8_fastest_peer_FPS"] == pytest.approx(1000 / 12)


def test_the_headline_says_none_of_what_was_not_measured() -> None:
    times = rows(("ours", "eager", "cpu", 1, 1, 40.0))

    found = headline(with_ratios(times, ROOFLINE, MACS))

    assert found["float32_times_eager"] == pytest.approx(1)
    for name in ("fused_FPS", "int8_runtime", "int8_times_eager", "int8_fastest_peer"):
        assert found[name] is None


COUNTING = pd.DataFrame(
    {"model": ["ours", "vipnas_mbv3", "litehrnet18"], "mmcv count (M)": [580.0, 762.0, 266.0]}
)


def test_points_are_the_papers_and_the_fastest_measured_at_batch_1() -> None:
    found = paper_figure_points(TIMES, COUNTING)

    fps = {(r.model, r.kind): r.FPS for r in found.itertuples()}
    assert fps["ours", "paper, CPU"] == 18.3 and fps["ours", "paper, GPU"] == 55.2
    assert fps["ours", "eager, 1 CPU thread"] == pytest.approx(25)
    assert fps["ours", "fastest float32, 2 CPU threads"] == pytest.approx(1000 / 11)
    assert ("ours", "fastest int8, 2 CPU threads") not in fps  # not measured there
    assert ("mobilenetv2", "paper, CPU") not in fps  # not counted, not compared
    published = paper.SPEED.set_index("model")["AP"]
    assert (found["paper AP"] == found["model"].map(published)).all()
    assert found["GFLOPs"].tolist() == pytest.approx(
        found["model"].map({"ours": 0.58, "vipnas_mbv3": 0.762, "litehrnet18": 0.266}).tolist()
    )
    assert found["paper"].tolist() == found["kind"].str.startswith("paper").tolist()
    assert found["measured AP"].isna().all()


def test_points_on_a_gpu_are_of_two_precisions() -> None:
    gpu = rows(("ours", "eager", "cuda", 2, 1, 4.0), ("ours", "cuda-graph-bf16", "cuda", 2, 1, 1.0))
    gpu.loc[1, "precision"] = "bfloat16"

    found = paper_figure_points(pd.concat([TIMES, gpu]), COUNTING)

    fps = {(r.model, r.kind): r.FPS for r in found.itertuples()}
    assert fps["ours", "fastest float32, GPU"] == pytest.approx(250)
    assert fps["ours", "fastest bfloat16, GPU"] == pytest.approx(1000)
    assert fps["ours", "fastest float32, 2 CPU threads"] == pytest.approx(1000 / 11)


def test_measured_accuracy_joins_the_points_in_percent() -> None:
    accuracy = pd.DataFrame({"model": ["ours"], "precision": ["float32"], "AP": [0.5]})

    times = TIMES[TIMES["threads"] == 1]
    found = paper_figure_points(times, COUNTING, accuracy).set_index("model")

    ours = found.loc["ours"]
    int8 = ours["kind"].str.contains("int8")
    assert int8.any() and ours.loc[int8, "measured AP"].isna().all()
    assert (ours.loc[~int8, "measured AP"] == 50).all()
    assert found.loc["vipnas_mbv3", "measured AP"].isna().all()


def protocols(folder: Path, model: str, text: str) -> None:
    (folder / f"{model}-seed0").mkdir(parents=True)
    (folder / f"{model}-seed0/protocols.csv").write_text(text)
    write_json(folder / f"{model}-seed0/run.json", {"config": {"data": "data/puppets"}})


def test_accuracy_is_that_of_true_boxes_and_flip_test(tmp_path: Path) -> None:
    lines = "boxes,flip,input,AP\nground-truth,False,128x96,0.1\n"
    lines += "ground-truth,True,128x96,0.2\ndetected,True,128x96,0.3\n"
    (tmp_path / "evaluate").mkdir()
    protocols(tmp_path / "evaluate", "ours", lines)
    protocols(tmp_path / "evaluate_int8", "ours", lines.replace("0.2", "0.15"))

    found = measured_accuracy(tmp_path / "evaluate", ["ours", "litehrnet18"])

    assert found.to_dict("records") == [
        {"model": "ours", "precision": "float32", "AP": 0.2, "on": "puppets at 128x96"},
        {"model": "ours", "precision": "int8", "AP": 0.15, "on": "puppets at 128x96"},
    ]


@pytest.mark.parametrize("text", [None, "boxes,flip,AP\ndetected,True,0.3\n", "boxes,flip,PCK\n"])
def test_a_folder_without_such_accuracy_is_named(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        protocols(tmp_path, "ours", text)

    with pytest.raises(HwlError, match=rf"{tmp_path} has no <model>-seed0/protocols\.csv"):
        measured_accuracy(tmp_path, ["ours"])


def test_ratios_to_peers_stand_beside_the_papers() -> None:
    rows = [
        {"model": model, "runtime": runtime, "precision": precision, "device": "cpu"}
        | {"threads": 1, "batch": batch, "FPS": fps * batch}
        for batch in (1, 8)
        for model, runtime, precision, fps in (
            ("ours", "eager", "float32", 30.0),
            ("ours", "openvino", "float32", 90.0),
            ("mobilenetv2", "eager", "float32", 15.0),
            ("mobilenetv2", "openvino", "float32", 60.0),
            ("other", "eager", "float32", 10.0),
        )
    ]

    table = times_peers(pd.DataFrame(rows)).set_index("peer")

    mobilenet = table.loc["mobilenetv2"]
    assert mobilenet["paper, CPU"] == pytest.approx(18.3 / 19.3)
    assert mobilenet["here, eager"] == 2 and mobilenet["here, fastest float32"] == 1.5
    assert table.loc["other", "here, eager"] == 3 and np.isnan(table.loc["other", "paper, CPU"])
    assert "here, fastest int8" not in table

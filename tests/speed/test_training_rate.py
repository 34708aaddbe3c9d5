"""The benchmark of a training step: its parts, its share of the peak rate, each profile's hours."""

from __future__ import annotations

from pathlib import Path

import cv2
import pandas as pd
import pytest
import torch
import yaml

from hwl.errors import HwlError
from hwl.speed import peak, training_rate
from hwl.speed.config import TrainingRateConfig
from hwl.speed.projection import Training, Work
from hwl.speed.training_rate import PARTS, Marks, bench_train

MATRIX = {"cpu": 64, "cuda": 64}


@pytest.fixture(scope="module")
def tables(puppets: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    folder = tmp_path_factory.mktemp("bench")
    config = TrainingRateConfig(
        output=str(folder / "run"),
        data=str(puppets),
        crop_cache=str(folder / "cache"),
        price=2.0,
        **{"input_height": 64, "input_width": 32, "batch_size": 4, "rounds": 2, "threads": 2},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peak, "MATRIX", MATRIX)
        # Every model of every profile takes seconds to count; hours of one are tested below.
        patch.setattr(training_rate, "work_of", lambda _: Work(10**9, 1))
        found = bench_train(config)
    for name, table in found.items():
        written = pd.read_csv(folder / f"run/{name}.csv")
        pd.testing.assert_frame_equal(written, table, check_dtype=False)
    return found


def test_every_part_of_a_step_is_told(tables: dict[str, pd.DataFrame]) -> None:
    parts = tables["parts"]
    floats = parts[parts["precision"] == "float32"]

    assert tuple(floats["part"]) == PARTS
    assert floats["of the step"].sum() == pytest.approx(1)
    assert (4000 / floats["ms a step"]).to_numpy() == pytest.approx(floats["images/s"].to_numpy())


def test_the_share_of_the_peak_is_that_of_three_forward_passes(
    tables: dict[str, pd.DataFrame],
) -> None:
    step = tables["steps"].iloc[0]
    assert step["threads"] == 2 != torch.get_num_threads()

    macs = 558_997_088 * 64 * 32 / (256 * 192)  # but for squeeze-excite, which has no pixels
    assert step["GFLOP/s"] / step["images/s"] == pytest.approx(6 * macs / 1e9, rel=0.1)
    assert step["of the peak rate"] == pytest.approx(step["GFLOP/s"] / step["peak GFLOP/s"])


def test_each_profile_has_its_hours_and_their_cost(tables: dict[str, pd.DataFrame]) -> None:
    profiles = tables["profiles"].set_index("profile")

    assert profiles.loc["paper", "trainings"] == 19
    assert (profiles["hours"] > 0).all()
    assert (profiles["cost"] / profiles["hours"]).to_numpy() == pytest.approx(2.0)


def test_hours_are_the_work_of_all_trainings_over_the_rate(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "profiles").mkdir()
    recipe = {"epochs": 2, "evaluate_every": 1, "input_height": 64, "input_width": 32}
    profile = {"data": "data/coco", "recipe": recipe, "variants": {"ours": {}}, "seeds": {}}
    (tmp_path / "profiles/small.yaml").write_text(yaml.safe_dump(profile))
    (tmp_path / "profiles/speed.yaml").write_text(yaml.safe_dump({**profile, "variants": {}}))
    monkeypatch.setattr(training_rate, "PROJECT", tmp_path)
    one = Training("ours-seed0", "ours", {}, (64, 32), images=2 * 149_813 + 2 * 104_125 * 2 / 3)

    table = training_rate._profiles(training_rate._listed_trainings(), rate=50.0, price=0.0)

    seconds = one.images * training_rate.work_of(one).flops / 50e9
    assert table["hours"].tolist() == pytest.approx([seconds / 3600]) and "cost" not in table


def test_a_profile_without_its_epochs_is_told_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "profiles").mkdir()
    profile = {"data": "data/coco", "recipe": {}, "variants": {"ours": {}}, "seeds": {}}
    (tmp_path / "profiles/mine.yaml").write_text(yaml.safe_dump(profile))
    monkeypatch.setattr(training_rate, "PROJECT", tmp_path)

    with pytest.raises(HwlError, match=r"mine\.yaml: 'recipe' has no 'epochs'"):
        training_rate._listed_trainings()


def test_data_that_profiles_share_are_read_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "profiles").mkdir()
    for name in ("one", "other"):
        profile = {"data": "data/shared", "recipe": {}, "variants": {"ours": {}}}
        (tmp_path / f"profiles/{name}.yaml").write_text(yaml.safe_dump(profile))
    read: list[Path] = []

    def missing(folder: Path, split: str) -> None:
        read.append(folder)
        raise HwlError(f"{folder}: there is no {split}")

    monkeypatch.setattr(training_rate, "PROJECT", tmp_path)
    monkeypatch.setattr(training_rate, "load_split", missing)

    assert not training_rate._listed_trainings()

    assert len(read) == 1


def test_marks_tell_the_time_between_them(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([1.0, 3.0, 3.5])
    monkeypatch.setattr(training_rate.time, "perf_counter", lambda: next(moments))
    marks = Marks(torch.device("cpu"))

    for _ in range(3):
        marks.set()

    assert marks.seconds() == [2.0, 0.5]


def test_the_data_are_made_by_one_thread_of_torch_and_of_opencv() -> None:
    before = torch.get_num_threads(), cv2.getNumThreads()

    found, seconds = training_rate._by_one_core(
        lambda pairs: (pairs, torch.get_num_threads(), cv2.getNumThreads()), [(0, 1)]
    )

    assert found == ([(0, 1)], 1, 1) and seconds >= 0
    assert (torch.get_num_threads(), cv2.getNumThreads()) == before

"""Training: what a run leaves, repeatability and what it learns from."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from hwl.codec import HeatmapCodec
from hwl.data.annotations import Annotations, Boxes, load_split
from hwl.evaluation.config import EvaluateConfig
from hwl.evaluation.evaluate import evaluate_weights
from hwl.files import read_json
from hwl.models import MODELS, load_model, save_weights
from hwl.runs.command import relative
from hwl.skeletons import COCO, MPII, Skeleton
from hwl.training import fit as training
from hwl.training.config import TrainConfig
from hwl.training.fit import first_samples, fit
from hwl.training.state import TrainingState

MakeConfig = Callable[..., TrainConfig]
DETECTIONS = "person_detection_results/val2017_simulated_detections.json"


def weights(folder: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return load_file(folder / f"{name}.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def history(folder: Path) -> list[dict[str, str]]:
    with (folder / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_finished_run_leaves_its_results_and_nothing_else(trained: Path) -> None:
    left = {path.name for path in trained.iterdir()}

    names = {"best.safetensors", "last.safetensors", "history.csv", "metrics.json", "run.json"}
    assert left == {*names, ".hwl-run"}
    assert [path.name for path in trained.parent.iterdir()] == [trained.name]


def test_the_history_has_a_row_an_epoch_and_metrics_where_evaluated(trained: Path) -> None:
    first, second = history(trained)

    assert [first["epoch"], first["steps"], second["epoch"], second["steps"]] == list("1326")
    assert [float(first["lr"]), float(second["lr"])] == pytest.approx([1e-3, 1e-4])
    assert first["AP"] == "" and 0 <= float(second["AP"]) <= 1


def test_run_json_has_the_configuration_the_data_and_the_persons(
    trained: Path, small_training: MakeConfig
) -> None:
    run = json.loads((trained / "run.json").read_text())

    assert run["config"] == relative(dataclasses.asdict(small_training(trained)))
    assert "person_keypoints_train2017.json sha256:" in run["inputs"]["train"]
    assert "person_keypoints_val2017.json sha256:" in run["inputs"]["val"]
    assert "train2017: 8 files, names and contents" in run["inputs"]["train images"]
    assert run["persons"] == {"train": 12, "val": 3}


def test_the_weights_say_which_model_they_are_for(trained: Path) -> None:
    for name in ("best", "last"):
        config = load_model(trained / f"{name}.safetensors").config
        assert (config["name"], config["num_keypoints"]) == ("ours", 17)


def test_the_weights_say_how_to_use_them_and_what_they_reached(trained: Path) -> None:
    record = json.loads((trained / "metrics.json").read_text())

    for name in ("best", "last"):
        told = load_model(trained / f"{name}.safetensors").description
        assert told.skeleton == COCO and told.input_size == (64, 32) and told.sigma == 2
        assert told.trained_on.startswith("12 persons of ")
        assert "person_keypoints_train2017.json sha256:" in told.trained_on
        assert told.metrics["AP"] == record["AP"]
        assert told.protocol.startswith("ground-truth boxes, flip test, quarter-pixel decode")


def assert_weights_reach_what_they_tell(weights: Path, data: str) -> None:
    config = EvaluateConfig(
        output="run", data=data, weights=str(weights), limit=3, workers=0, bootstrap=0
    )

    _, (*_, found) = evaluate_weights(config)

    told = load_model(weights).description
    assert found.metrics["AP"] == told.metrics["AP"]
    assert found.metrics["OKS"] == pytest.approx(told.metrics["OKS"], rel=1e-6)
    assert found.sentence() == told.protocol


def test_weights_evaluated_without_naming_a_size_reach_what_they_tell(
    trained: Path, small_training: MakeConfig, tmp_path: Path
) -> None:
    assert_weights_reach_what_they_tell(trained / "best.safetensors", small_training(tmp_path).data)


def test_trainings_of_one_process_have_each_its_precision_and_reach_what_their_weights_tell(
    small_training: MakeConfig, tmp_path: Path
) -> None:
    for precision in ("no", "bf16"):
        config = small_training(tmp_path / precision, precision=precision, epochs=1, lr_drops=[])
        fit(config)

        assert_weights_reach_what_they_tell(tmp_path / precision / "best.safetensors", config.data)
    assert not same(weights(tmp_path / "no"), weights(tmp_path / "bf16"))


@pytest.mark.parametrize(("values", "best"), [([0.5, 0.25], 1), ([0.25, 0.5], 2)])
def test_the_best_epochs_weights_and_metrics_are_kept(
    values: list[float],
    best: int,
    small_training: MakeConfig,
    val_metric: Callable[[list[float]], None],
    tmp_path: Path,
) -> None:
    val_metric(values)

    fit(small_training(tmp_path / "run", evaluate_every=1))

    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert (metrics["epoch"], metrics["AP"]) == (best, 0.5)
    is_last = same(weights(tmp_path / "run", "best"), weights(tmp_path / "run", "last"))
    assert is_last == (best == 2)


def test_the_last_epoch_is_always_evaluated(
    small_training: MakeConfig, val_metric: Callable[[list[float]], None], tmp_path: Path
) -> None:
    val_metric([0.5, 0.5])

    records = fit(small_training(tmp_path / "run", epochs=3, train_limit=4))

    assert [record.get("AP") for record in records] == [None, 0.5, 0.5]


def test_the_loss_falls_when_a_few_persons_are_overfit(
    small_training: MakeConfig,
    val_metric: Callable[[list[float]], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    val_metric([0.0])
    monkeypatch.setattr(TrainingState, "save", lambda _: None)  # checkpoints of 37 MB, at each step

    records = fit(
        small_training(
            *(tmp_path / "run",),
            **{"train_limit": 4, "augment": False, "epochs": 30, "lr_drops": [], "lr": 3e-3},
            evaluate_every=30,
        )
    )

    assert records[-1]["loss"] < 0.25 * records[0]["loss"]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_same_seed_gives_the_same_bits_with_any_number_of_workers(
    workers: int, trained: Path, small_training: MakeConfig, tmp_path: Path
) -> None:
    fit(small_training(tmp_path / "again", workers=workers))

    assert (tmp_path / "again/last.safetensors").read_bytes() == (
        trained / "last.safetensors"
    ).read_bytes()


def test_with_a_crop_cache_the_same_samples_are_learned(
    small_training: MakeConfig, tmp_path: Path
) -> None:
    still = {"epochs": 1, "lr": 1e-12, "evaluate_every": 1}  # so that the loss is the samples' own
    cache = str(tmp_path / "cache")

    (exact,) = fit(small_training(tmp_path / "exact", **still))
    (cached,) = fit(small_training(tmp_path / "cached", crop_cache=cache, workers=1, **still))

    assert cached["loss"] == pytest.approx(exact["loss"], rel=1e-3)


def test_another_seed_gives_other_weights(
    trained: Path, small_training: MakeConfig, tmp_path: Path
) -> None:
    fit(small_training(tmp_path / "other", seed=1))

    assert not same(weights(tmp_path / "other"), weights(trained))


def test_initial_weights_are_taken_from_a_checkpoint(
    trained: Path, small_training: MakeConfig, tmp_path: Path
) -> None:
    start = str(trained / "last.safetensors")

    fit(small_training(tmp_path / "run", epochs=1, train_limit=4, lr=1e-12, init_weights=start))

    before, after = weights(trained), weights(tmp_path / "run")
    for key in before:
        if key.endswith((".weight", ".bias")):
            torch.testing.assert_close(after[key], before[key], msg=key)


def test_a_training_from_other_initial_weights_of_the_same_name_is_made_anew(
    trained: Path, small_training: MakeConfig, tmp_path: Path
) -> None:
    start = tmp_path / "start.safetensors"
    config = small_training(
        tmp_path / "run", epochs=1, train_limit=4, lr=1e-12, init_weights=str(start)
    )
    shutil.copy(trained / "last.safetensors", start)
    fit(config)
    first = weights(tmp_path / "run")
    told = read_json(tmp_path / "run/run.json")["inputs"]["init weights"]
    save_weights(load_model(start).apply(_halve), start)

    fit(config)

    assert not same(weights(tmp_path / "run"), first)
    assert read_json(tmp_path / "run/run.json")["inputs"]["init weights"] != told


def _halve(module: torch.nn.Module) -> None:
    for parameter in module.parameters(recurse=False):
        parameter.data *= 0.5


def test_a_batch_computed_in_parts_gives_the_same_weights(
    small_training: MakeConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def of_evaluation(images: torch.Tensor, *statistics: object) -> torch.Tensor:
        return batch_norm(images, *statistics[:4], False, *statistics[5:])

    batch_norm = torch.nn.functional.batch_norm
    monkeypatch.setattr("torch.nn.functional.batch_norm", of_evaluation)  # parts would differ in it
    recipe = {"epochs": 1, "train_limit": 7, "lr": 1e-4, "lr_drops": []}

    whole = fit(small_training(tmp_path / "whole", **recipe))
    parts = fit(small_training(tmp_path / "parts", accumulate=3, **recipe))

    assert parts[0]["loss"] == pytest.approx(whole[0]["loss"], rel=1e-5)
    expected, found = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert not same(found, expected)  # they were rounded elsewhere
    for key in expected:
        if key.endswith((".weight", ".bias")):
            torch.testing.assert_close(found[key], expected[key], rtol=0, atol=2e-6, msg=key)


def test_a_profiled_run_leaves_a_trace_and_a_table_of_its_steps(
    small_training: MakeConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(MODELS, "small", small_model)  # of a larger one the trace is long

    # 9 steps, of which the fourth to the eighth are recorded.
    fit(small_training(tmp_path / "run", model="small", profile=True, epochs=3, evaluate_every=3))

    trace = json.loads((tmp_path / "run/profile/trace.json").read_text())
    names = {event.get("name") for event in trace["traceEvents"]}
    assert "aten::native_batch_norm" in names or "aten::batch_norm" in names
    with (tmp_path / "run/profile/table.csv").open(newline="") as file:
        rows = {row["operation"]: row for row in csv.DictReader(file)}
    assert float(rows["aten::batch_norm"]["calls a step"]) == 2


def small_model(num_keypoints: int) -> tuple[nn.Module, nn.Module]:
    """Two convolutions with batch normalization, and a third for the heatmaps."""
    first = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.BatchNorm2d(8), nn.ReLU())
    second = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU())
    return nn.Sequential(first, second), nn.Conv2d(8, num_keypoints, 1)


def test_first_samples_are_those_that_the_run_learns_from(
    small_training: MakeConfig, tmp_path: Path
) -> None:
    samples = first_samples(small_training(tmp_path), count=3)

    assert [tuple(sample.crop.shape) for sample in samples] == [(3, 64, 32)] * 3
    assert [tuple(sample.target.shape) for sample in samples] == [(17, 16, 8)] * 3


def test_the_best_epoch_is_chosen_on_detected_boxes_where_they_are_given(
    puppets: Path,
    small_training: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = puppets / DETECTIONS
    used = []

    def validate(
        predictor: object, val: Annotations, boxes: Boxes, *_: object
    ) -> tuple[dict[str, float], str]:
        used.append(boxes)
        return {"AP": 0.5}, "as told"

    monkeypatch.setattr(training, "validate", validate)
    changes = {"detections": str(path), "val_limit": 0, "epochs": 1, "train_limit": 4}

    fit(small_training(tmp_path / "run", **changes))

    assert [boxes.source for boxes in used] == [path.name]
    np.testing.assert_array_equal(
        used[0].boxes, [box["bbox"] for box in json.loads(path.read_text())]
    )
    run = json.loads((tmp_path / "run/run.json").read_text())
    assert f"{path.name} sha256:" in run["inputs"]["detections"]


@pytest.mark.parametrize(("skeleton", "shift"), [(COCO, 0.3), (MPII, 0.0)])
def test_centers_of_mpii_are_not_shifted_as_in_mmpose(
    skeleton: Skeleton, shift: float, small_training: MakeConfig, puppets: Path, tmp_path: Path
) -> None:
    learned = dataclasses.replace(load_split(puppets, "train2017"), skeleton=skeleton)

    dataset = training._dataset(
        small_training(tmp_path, augment=True), learned, HeatmapCodec((64, 32))
    )

    assert dataset.augmentation is not None and dataset.augmentation.shift == shift

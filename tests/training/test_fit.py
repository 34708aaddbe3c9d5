"""Training: the paper's schedule, what a run leaves, repeatability and the mistakes it names."""

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

from hwl.data.annotations import Annotations, Boxes
from hwl.errors import HwlError
from hwl.evaluation.config import EvaluateConfig
from hwl.evaluation.evaluate import evaluate_weights
from hwl.losses import WEIGHT_FUNCTIONS
from hwl.models import Description, create_model, load_model, save_weights
from hwl.runs.command import relative
from hwl.skeletons import COCO, MPII
from hwl.training import fit as training
from hwl.training.config import TrainConfig
from hwl.training.fit import first_samples, fit, learning_rate

MakeConfig = Callable[..., TrainConfig]
PAPER = TrainConfig(output="run", data="data")
AFTER_WARMUP = 10**6  # steps
DETECTIONS = "person_detection_results/val2017_simulated_detections.json"


def weights(folder: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return load_file(folder / f"{name}.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def history(folder: Path) -> list[dict[str, str]]:
    with (folder / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def val_metric(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[float]], None]:
    """Sets the AP of each evaluation instead of measuring it."""

    def be(values: list[float]) -> None:
        left = iter(values)
        monkeypatch.setattr(training, "validate", lambda *_: ({"AP": next(left)}, "as told"))

    return be


def test_the_defaults_are_the_papers_recipe() -> None:
    recipe = {
        **{"model": "ours", "model_options": {}, "init_weights": "", "weight_function": "identity"},
        **{"input_height": 256, "input_width": 192, "sigma": 2, "augment": True, "half_body": 0.3},
        **{"epochs": 210, "batch_size": 64, "lr": 5e-4, "warmup_steps": 500},
        **{"lr_drops": [170, 200], "evaluate_every": 10, "metric": "AP"},
        **{"train_split": "train2017", "val_split": "val2017", "train_limit": 0, "val_limit": 0},
    }

    assert recipe.items() <= dataclasses.asdict(PAPER).items()


@pytest.mark.parametrize("step", [0, 1, 100, 250, 400, 499, 500])
def test_the_rate_rises_linearly_from_a_thousandth_over_500_steps(step: int) -> None:
    rate = learning_rate(PAPER, step, epoch=0)

    assert rate == pytest.approx(5e-4 * (0.001 + 0.999 * step / 500), rel=1e-12)


def test_the_rate_stays_at_its_height_after_the_warm_up() -> None:
    assert {learning_rate(PAPER, step, epoch=1) for step in (500, 501, 5000)} == {5e-4}


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [(0, 5e-4), (169, 5e-4), (170, 5e-5), (199, 5e-5), (200, 5e-6), (209, 5e-6)],
)
def test_the_rate_drops_tenfold_after_epochs_170_and_200(epoch: int, rate: float) -> None:
    assert learning_rate(PAPER, AFTER_WARMUP, epoch) == pytest.approx(rate, rel=1e-9)


def test_no_warm_up_starts_at_the_full_rate() -> None:
    assert learning_rate(dataclasses.replace(PAPER, warmup_steps=0), 0, 0) == 5e-4


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
    assert run["inputs"]["train"].startswith("person_keypoints_train2017.json sha256:")
    assert run["inputs"]["val"].startswith("person_keypoints_val2017.json sha256:")
    assert run["inputs"]["train images"].startswith("train2017: 8 files, names and contents")
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


def test_weights_evaluated_without_naming_a_size_give_the_ap_that_they_tell(
    trained: Path, small_training: MakeConfig, tmp_path: Path
) -> None:
    weights, how = trained / "best.safetensors", small_training(tmp_path)
    config = EvaluateConfig(
        output="run", data=how.data, weights=str(weights), limit=3, workers=0, bootstrap=0
    )

    _, (*_, found) = evaluate_weights(config)

    told = load_model(weights).description
    assert found.metrics["AP"] == told.metrics["AP"]
    assert found.sentence() == told.protocol


def test_initial_weights_of_other_keypoints_are_refused_by_the_first_that_differs(
    small_training: MakeConfig, tmp_path: Path
) -> None:
    names = list(COCO.keypoints)
    names[1], names[2] = names[2], names[1]
    model = create_model("ours")
    model.describe(Description(skeleton=dataclasses.replace(COCO, keypoints=tuple(names))))
    save_weights(model, tmp_path / "start.safetensors")

    with pytest.raises(
        HwlError, match=r"keypoint 2 of .*start\.safetensors is 'right_eye', that of"
    ):
        fit(small_training(tmp_path / "run", init_weights=str(tmp_path / "start.safetensors")))


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


def test_the_loss_falls_when_a_few_persons_are_learned_by_heart(
    small_training: MakeConfig, val_metric: Callable[[list[float]], None], tmp_path: Path
) -> None:
    val_metric([0.0])

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


@pytest.mark.slow
def test_a_profiled_run_leaves_a_trace_and_a_table_of_its_steps(
    small_training: MakeConfig, tmp_path: Path
) -> None:
    # 9 steps, of which the fourth to the eighth are recorded.
    fit(small_training(tmp_path / "run", profile=True, epochs=3, evaluate_every=3))

    trace = json.loads((tmp_path / "run/profile/trace.json").read_text())
    names = {event.get("name") for event in trace["traceEvents"]}
    assert "aten::native_batch_norm" in names or "aten::batch_norm" in names
    with (tmp_path / "run/profile/table.csv").open(newline="") as file:
        rows = {row["operation"]: row for row in csv.DictReader(file)}
    norms = sum(isinstance(m, torch.nn.BatchNorm2d) for m in create_model("ours").modules())
    assert float(rows["aten::batch_norm"]["calls a step"]) == norms


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
    assert run["inputs"]["detections"].startswith(f"{path.name} sha256:")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "detected boxes need val_limit 0, not 3"),
        ({"val_limit": 0, "metric": "PCK"}, "metric AP, not PCK"),
        ({"val_limit": 0, "detections": "gone.json"}, "gone.json: cannot be read"),
    ],
)
def test_detections_that_cannot_be_used_are_named_before_training_starts(
    changes: dict[str, object],
    message: str,
    puppets: Path,
    small_training: MakeConfig,
    tmp_path: Path,
) -> None:
    with pytest.raises(HwlError, match=message):
        fit(
            small_training(tmp_path / "run", **{"detections": str(puppets / DETECTIONS), **changes})
        )

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": "mAP"}, "'metric' is 'mAP': it must be one of AP, PCK, PCKh"),
        ({"precision": "fp8"}, "'precision' is 'fp8': it must be one of auto, no, fp16"),
        ({"epochs": 0}, "'epochs' is 0: it must be a whole number from 1"),
        ({"batch_size": -1}, "'batch_size' is -1: it must be a whole number from 1"),
        ({"lr": 0.0}, "'lr' is 0.0: it must be a number above 0"),
        ({"weight_function": "cube"}, "weight function 'cube' is not one of zero"),
        ({"model": "our"}, "model 'our' is not one of ours"),
        ({"model_options": {"heads": "dense"}}, "no option 'heads'; did you mean 'head'"),
        ({"model_options": {"attention": "full"}}, "'attention' is 'full': it must be a list"),
        ({"model_options": {"attention": [[1]]}}, "'attention' is .*: it must be a list"),
        ({"model_options": {"attention": ["full"]}}, "give 3 names, one a stage"),
        ({"model_options": {"head": ["lite"]}}, r"'head' is \['lite'\]: it must be text"),
        ({"model_options": {"backbone": "vgg"}}, "backbone 'vgg' is not one of"),
        ({"input_width": 33}, "'input_width' is 33: it must be .* divisible by 32"),
        ({"train_split": "train"}, "person_keypoints_train.json: cannot be read"),
        ({"init_weights": "gone.safetensors"}, "gone.safetensors: there is no such weights file"),
    ],
)
def test_a_mistake_in_the_configuration_is_named(
    changes: dict[str, object], message: str, small_training: MakeConfig, tmp_path: Path
) -> None:
    with pytest.raises(HwlError, match=message):
        fit(small_training(tmp_path / "run", **changes))

    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def edited(puppets: Path, tmp_path: Path) -> Callable[..., str]:
    """Copies the puppets and edits a split's annotation file."""

    def edit(split: str, change: Callable[[dict], None]) -> str:
        folder = tmp_path / "edited"
        shutil.copytree(puppets, folder)
        path = folder / f"annotations/person_keypoints_{split}.json"
        listing = json.loads(path.read_text())
        change(listing)
        path.write_text(json.dumps(listing))
        return str(folder)

    return edit


@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_an_empty_data_set_is_named_before_training_starts(
    split: str, edited: Callable[..., str], small_training: MakeConfig, tmp_path: Path
) -> None:
    data = edited(split, lambda listing: listing.update(annotations=[]))

    with pytest.raises(HwlError, match=f"person_keypoints_{split}.json: the data set is empty"):
        fit(small_training(tmp_path / "run", data=data))

    assert not (tmp_path / "run.partial").exists()


def test_a_metric_that_is_undefined_is_named_before_training_starts(
    edited: Callable[..., str], small_training: MakeConfig, tmp_path: Path
) -> None:
    def without_shoulders(listing: dict) -> None:
        for person in listing["annotations"]:
            person["keypoints"][3 * COCO.index("left_shoulder") + 2] = 0

    with pytest.raises(HwlError, match=r"val2017\.json: no person has both left_shoulder and"):
        fit(
            small_training(
                tmp_path / "run", data=edited("val2017", without_shoulders), metric="PCK"
            )
        )

    assert not (tmp_path / "run.partial").exists()


def test_a_run_whose_metric_is_no_number_does_not_end_well(
    small_training: MakeConfig, val_metric: Callable[[list[float]], None], tmp_path: Path
) -> None:
    val_metric([float("nan")])

    with pytest.raises(HwlError, match="AP is undefined after epoch 1"):
        fit(small_training(tmp_path / "run", epochs=1, train_limit=4))

    assert not (tmp_path / "run").exists()


def test_other_keypoints_in_the_validation_set_are_named(
    edited: Callable[..., str], small_training: MakeConfig, tmp_path: Path
) -> None:
    def to_mpii(listing: dict) -> None:
        listing["categories"] = [MPII.category()]
        for person in listing["annotations"]:
            person["keypoints"] = person["keypoints"][: 3 * len(MPII)]

    with pytest.raises(HwlError, match=r"val2017\.json has other keypoints than .*train2017\.json"):
        fit(small_training(tmp_path / "run", data=edited("val2017", to_mpii)))


def test_a_loss_that_is_nan_stops_the_run_and_names_lr(
    small_training: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WEIGHT_FUNCTIONS, "nan", lambda target: torch.nan * target)

    with pytest.raises(HwlError, match=r"loss is NaN at step \d+ \(epoch 1\).*lr.* 0.5"):
        fit(small_training(tmp_path / "run", lr=0.5, weight_function="nan"))

    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_missing_image_is_told_in_one_line(
    workers: int, edited: Callable[..., str], small_training: MakeConfig, tmp_path: Path
) -> None:
    data = edited("train2017", lambda listing: listing["images"][0].update(file_name="gone.jpg"))

    with pytest.raises(HwlError) as caught:
        fit(small_training(tmp_path / "run", data=data, workers=workers, train_limit=4))

    message = str(caught.value)
    assert message.startswith(f"{data}/train2017/gone.jpg: ") and "\n" not in message

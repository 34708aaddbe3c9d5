"""Mistakes are named, before training starts where they can be."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from hwl.errors import HwlError
from hwl.losses import WEIGHT_FUNCTIONS
from hwl.models import Description, create_model, save_weights
from hwl.skeletons import COCO, MPII
from hwl.training.config import TrainConfig
from hwl.training.fit import fit

MakeConfig = Callable[..., TrainConfig]
DETECTIONS = "person_detection_results/val2017_simulated_detections.json"


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
        ({"half_body": -0.1}, "'half_body' is -0.1: it must be a number from 0 to 1"),
        ({"half_body": 1.1}, "'half_body' is 1.1: it must be a number from 0 to 1"),
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


def test_half_precision_without_a_gpu_is_refused(
    small_training: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)

    with pytest.raises(HwlError, match="'precision' is 'fp16', which needs a GPU"):
        fit(small_training(tmp_path / "run", precision="fp16"))

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

"""What weights say of themselves: written, read back, and refused where it is wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torchvision.transforms import Normalize

from hwl.errors import HwlError
from hwl.models import Description, create_model, load_model, save_weights
from hwl.models.description import description_from_dict
from hwl.skeletons import COCO, LSP, MPII, Skeleton

FACE = Skeleton("face", ("nose", "one", "other"), ((0, 1),), (0.1, 0.2, 0.2), (("one", "other"),))


def through_json(description: Description) -> dict[str, Any]:
    return json.loads(json.dumps(description.to_dict()))


@pytest.mark.parametrize("skeleton", [COCO, MPII, LSP, FACE])
def test_a_description_comes_back_from_json(skeleton: Skeleton) -> None:
    description = Description(
        skeleton=skeleton,
        input_size=(384, 288),
        mean=(0.1, 0.2, 0.3),
        std=(0.4, 0.5, 0.6),
        sigma=3.0,
        trained_on="5 persons of a.json",
        metrics={"AP": 0.25},
        protocol="ground-truth boxes",
    )

    assert description_from_dict(through_json(description), "w") == description


def test_undefined_metrics_are_left_out() -> None:
    told = Description(skeleton=COCO, metrics={"AP": 0.5, "AP_M": float("nan")}).to_dict()

    assert told["metrics"] == {"AP": 0.5}


@pytest.mark.parametrize(
    "change",
    [
        {"keypoints": ["nose"] * 17},
        {"keypoints": "nose"},
        {"limbs": [[0, 17]]},
        {"sigmas": [0.1]},
        {"sigmas": [0.1] * 16 + [0.0]},
        {"flip_pairs": [["nose", "chin"]]},
        {"input_size": [250, 192]},
        {"input_size": [256]},
        {"input_size": None},
        {"std": [0.2, 0.0, 0.2]},
        {"mean": ["a", 0, 0]},
        {"stride": 8},
        {"sigma": -1},
        {"decode": "dark"},
        {"metrics": {"AP": "high"}},
    ],
)
def test_an_impossible_entry_is_refused_in_a_line_that_names_the_file(
    change: dict[str, object],
) -> None:
    told = through_json(Description(skeleton=COCO)) | change

    with pytest.raises(HwlError, match=r"w\.safetensors: its description cannot be used") as error:
        description_from_dict(told, Path("w.safetensors"))

    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["keypoints", "input_size", "sigmas", "flip_pairs"])
def test_a_missing_entry_is_named(name: str) -> None:
    told = through_json(Description(skeleton=COCO))
    del told[name]

    with pytest.raises(HwlError, match=f"`{name}`"):
        description_from_dict(told, "w")


@pytest.mark.parametrize(
    "metadata",
    [
        "{",
        "[]",
        '{"config": 5}',
        '{"config": {"name": "ours", "num_keypoints": 17}, "description": {}}',
        '{"config": {"name": 7}}',
        '{"config": {"name": "ours", "num_keypoints": "many"}}',
    ],
)
def test_malformed_metadata_are_one_line(metadata: str, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(create_model("ours").state_dict(), path, {"hwl": metadata})

    with pytest.raises(HwlError, match=r"w\.safetensors") as error:
        load_model(path)

    assert "\n" not in str(error.value)


def test_a_description_of_another_number_of_keypoints_is_refused(tmp_path: Path) -> None:
    model = create_model("ours", 14)
    model.describe(Description(skeleton=COCO))
    save_weights(model, tmp_path / "w.safetensors")

    with pytest.raises(HwlError, match="describes 17 keypoints, its model predicts 14"):
        load_model(tmp_path / "w.safetensors")


def test_the_metadata_are_one_entry_so_that_files_are_the_same_bytes(tmp_path: Path) -> None:
    model = create_model("ours")
    model.describe(Description(skeleton=COCO))

    save_weights(model, tmp_path / "w.safetensors")

    with safe_open(tmp_path / "w.safetensors", framework="pt") as file:
        assert set(file.metadata()) == {"hwl"}


def test_files_of_earlier_versions_are_read_without_a_description(tmp_path: Path) -> None:
    config = json.dumps({"name": "ours", "num_keypoints": 17})
    save_file(create_model("ours").state_dict(), tmp_path / "w.safetensors", {"config": config})

    assert load_model(tmp_path / "w.safetensors").description is None


def test_preprocess_equals_torchvisions_and_is_no_part_of_the_state_dict() -> None:
    model = create_model("ours")
    crops = torch.randint(0, 256, (2, 3, 8, 6), dtype=torch.uint8, generator=torch.manual_seed(0))
    reference = Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])

    found = model.preprocess(crops)

    assert found.dtype == torch.float32
    torch.testing.assert_close(found, reference(crops / 255), atol=1e-6, rtol=1e-5)
    assert not {"mean", "std"} & model.state_dict().keys()


def test_the_first_keypoint_that_differs_is_named() -> None:
    names = list(COCO.keypoints)
    names[3], names[4] = names[4], names[3]
    exchanged = replace(COCO, keypoints=tuple(names))

    Description(skeleton=COCO).check_keypoints(COCO, "data", "w")
    with pytest.raises(HwlError, match="keypoint 4 of w is 'right_ear', that of data is"):
        Description(skeleton=exchanged).check_keypoints(COCO, "data", "w")

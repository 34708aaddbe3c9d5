"""Conversions of small synthetic LSP and MPII annotations with known numbers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

from hwl.data import convert
from hwl.data.annotations import load_annotations
from hwl.data.convert import convert_lsp, convert_mpii
from hwl.data.crops import box_crop
from hwl.errors import HwlError


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


# LSP


@pytest.fixture(scope="module")
def lsp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,000 images of 200 x 150 with random keypoints, some out of the image, a tenth hidden."""
    folder = tmp_path_factory.mktemp("lsp")
    rng = np.random.default_rng(0)
    keypoints = np.empty((3, 14, 2000))
    keypoints[0] = rng.uniform(-5, 205, (14, 2000))
    keypoints[1] = rng.uniform(20, 130, (14, 2000))
    keypoints[2] = rng.random((14, 2000)) < 0.1
    savemat(folder / "joints.mat", {"joints": keypoints})
    (folder / "images").mkdir()
    Image.new("RGB", (200, 150)).save(folder / "images/im0001.jpg")
    image = (folder / "images/im0001.jpg").read_bytes()
    for number in range(2, 2001):
        (folder / f"images/im{number:04d}.jpg").write_bytes(image)
    return folder


@pytest.fixture(scope="module")
def lsp_converted(lsp: Path) -> list[dict[str, Any]]:
    return [read(path) for path in convert_lsp(lsp, lsp / "out")]


def slow_lsp_annotation(table: NDArray[np.float64], number: int) -> dict[str, Any]:
    """One LSP annotation, keypoint by keypoint in plain Python, to compare with."""
    xs = [float(table[0, keypoint, number - 1]) for keypoint in range(14)]
    ys = [float(table[1, keypoint, number - 1]) for keypoint in range(14)]
    keypoints = []
    for keypoint in range(14):
        hidden = table[2, keypoint, number - 1] == 1
        keypoints += [round(xs[keypoint], 2), round(ys[keypoint], 2), 1 if hidden else 2]
    padding = 0.1 * max(max(xs) - min(xs), max(ys) - min(ys))
    left, right = max(min(xs) - padding, 0), min(max(xs) + padding, 200)
    top, bottom = max(min(ys) - padding, 0), min(max(ys) + padding, 150)
    return {
        "id": number,
        "image_id": number,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [round(value, 2) for value in (left, top, right - left, bottom - top)],
        "area": round(0.523 * (right - left) * (bottom - top), 2),
        "num_keypoints": 14,
        "keypoints": keypoints,
    }


def test_lsp_equals_a_slow_computation(lsp: Path, lsp_converted: list[dict[str, Any]]) -> None:
    keypoints = convert.loadmat(lsp / "joints.mat")["joints"]
    expected = [slow_lsp_annotation(keypoints, number) for number in range(1, 2001)]

    annotations = lsp_converted[0]["annotations"] + lsp_converted[1]["annotations"]

    assert annotations == expected


def test_lsp_splits_are_the_first_and_the_second_thousand(
    lsp_converted: list[dict[str, Any]],
) -> None:
    first, second = ([image["file_name"] for image in one["images"]] for one in lsp_converted)

    assert (first[0], first[-1], len(first)) == ("im0001.jpg", "im1000.jpg", 1000)
    assert (second[0], second[-1], len(second)) == ("im1001.jpg", "im2000.jpg", 1000)


def test_lsp_images_carry_the_size_of_the_files(lsp_converted: list[dict[str, Any]]) -> None:
    assert lsp_converted[0]["images"][6] == {
        "id": 7,
        "file_name": "im0007.jpg",
        "width": 200,
        "height": 150,
    }


def test_lsp_category_names_the_keypoints_in_order(lsp_converted: list[dict[str, Any]]) -> None:
    category = lsp_converted[1]["categories"][0]

    assert category["keypoints"][2] == "right_hip"
    assert category["keypoints"][-2:] == ["neck", "head_top"]
    assert len(category["keypoints"]) == 14


def test_lsp_extended_is_refused_by_its_shape(tmp_path: Path) -> None:
    savemat(tmp_path / "joints.mat", {"joints": np.zeros((14, 3, 10))})

    with pytest.raises(HwlError, match=r"joints\.mat: 'joints' has shape \(14, 3, 10\)"):
        convert_lsp(tmp_path, tmp_path)


def test_lsp_keypoint_that_is_no_number_is_refused_with_its_entry(tmp_path: Path) -> None:
    keypoints = np.zeros((3, 14, 2000))
    keypoints[1, 5, 41] = np.nan
    savemat(tmp_path / "joints.mat", {"joints": keypoints})

    with pytest.raises(HwlError, match="not finite in entry 42"):
        convert_lsp(tmp_path, tmp_path)


def test_lsp_missing_image_is_told_with_its_path(tmp_path: Path) -> None:
    savemat(tmp_path / "joints.mat", {"joints": np.zeros((3, 14, 2000))})

    with pytest.raises(HwlError, match=r"cannot read .*images/im0001\.jpg"):
        convert_lsp(tmp_path, tmp_path)


def test_lsp_damaged_mat_is_told_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "joints.mat").write_bytes(b"no matlab file at all" * 20)

    with pytest.raises(HwlError, match=r"cannot read .*joints\.mat"):
        convert_lsp(tmp_path, tmp_path)


# MPII


def mpii_entry(image: str) -> dict[str, Any]:
    return {
        "image": image,
        "joints": [[10.0 + keypoint, 20.0 + 2 * keypoint] for keypoint in range(15)]
        + [[-1.0, -1.0]],
        "joints_vis": [1] * 15 + [0],
        "center": [101.0, 201.0],
        "scale": 0.5,
    }


@pytest.fixture
def mpii(tmp_path: Path) -> Path:
    """A folder with two images and ``mpii_val.json`` of three persons, two in one image."""
    Image.new("RGB", (320, 240)).save(tmp_path / "a.jpg")
    Image.new("RGB", (100, 300)).save(tmp_path / "b.jpg")
    entries = [mpii_entry("b.jpg"), mpii_entry("a.jpg"), mpii_entry("b.jpg")]
    (tmp_path / "mpii_val.json").write_text(json.dumps(entries))
    return tmp_path


def converted_mpii(folder: Path, mat: Path | None = None) -> dict[str, Any]:
    return read(convert_mpii(folder / "mpii_val.json", folder, folder / "out/val.json", mat))


def test_mpii_box_is_the_dropped_square_of_200_per_scale(mpii: Path) -> None:
    annotation = converted_mpii(mpii)["annotations"][0]

    # center (101, 201) from 1 -> (100, 200) from 0 -> 7.5 down; side 100
    assert annotation["bbox"] == [50.0, 157.5, 100.0, 100.0]


def test_mpii_persons_are_cropped_by_their_center_and_scale_beyond_the_images_border(
    mpii: Path,
) -> None:
    """mmpose 0.x's rule: 15 scales down, then from one to zero, then 1.25 times 200 scales wide."""
    path = convert_mpii(mpii / "mpii_val.json", mpii, mpii / "out/val.json")

    boxes = load_annotations(path, mpii).ground_truth_boxes().boxes

    entry = mpii_entry("a.jpg")
    x, y = entry["center"][0] - 1, entry["center"][1] + 15 * entry["scale"] - 1
    side = 1.25 * 200 * entry["scale"]
    assert boxes[0, 0] + boxes[0, 2] > 100 and boxes[1, 1] + boxes[1, 3] > 240  # over the border
    for box in boxes:
        crop = box_crop(box, (256, 256))
        assert crop.center.tolist() == [x, y] and crop.scale.tolist() == [side, side]


def test_mpii_keypoints_count_from_zero(mpii: Path) -> None:
    annotation = converted_mpii(mpii)["annotations"][0]

    assert annotation["keypoints"][:6] == [9.0, 19.0, 2, 10.0, 21.0, 2]


def test_mpii_unannotated_keypoint_is_all_zero(mpii: Path) -> None:
    annotation = converted_mpii(mpii)["annotations"][0]

    assert annotation["keypoints"][-3:] == [0, 0, 0]
    assert annotation["num_keypoints"] == 15


def test_mpii_lists_each_image_once_with_its_size(mpii: Path) -> None:
    content = converted_mpii(mpii)

    assert content["images"] == [
        {"id": 1, "file_name": "b.jpg", "width": 100, "height": 300},
        {"id": 2, "file_name": "a.jpg", "width": 320, "height": 240},
    ]
    assert [one["image_id"] for one in content["annotations"]] == [1, 2, 1]
    assert [one["id"] for one in content["annotations"]] == [1, 2, 3]


def test_mpii_category_names_the_keypoints_in_order(mpii: Path) -> None:
    names = converted_mpii(mpii)["categories"][0]["keypoints"]

    assert names[6:11] == ["pelvis", "thorax", "upper_neck", "head_top", "right_wrist"]
    assert (len(names), names[15]) == (16, "left_wrist")


def test_mpii_head_size_is_a_share_of_the_head_boxes_diagonal(mpii: Path) -> None:
    boxes = np.zeros((2, 2, 3), np.uint8)  # unsigned, as a difference may not wrap
    boxes[0] = [[10, 9, 0], [20, 9, 0]]
    boxes[1] = [[40, 6, 5], [60, 5, 12]]
    savemat(mpii / "gt.mat", {"headboxes_src": boxes})

    annotations = converted_mpii(mpii, mpii / "gt.mat")["annotations"]

    assert [one["head_size"] for one in annotations] == pytest.approx([30.0, 3.0, 7.8])


def test_mpii_without_ground_truth_has_no_head_size(mpii: Path) -> None:
    assert "head_size" not in converted_mpii(mpii)["annotations"][0]


def test_mpii_ground_truth_of_another_split_is_refused(mpii: Path) -> None:
    savemat(mpii / "gt.mat", {"headboxes_src": np.ones((2, 2, 4))})

    with pytest.raises(HwlError, match=r"gt\.mat: .* shape \(2, 2, 4\), expected .*\(2, 2, 3\)"):
        converted_mpii(mpii, mpii / "gt.mat")


def test_mpii_ground_truth_without_head_boxes_is_refused(mpii: Path) -> None:
    savemat(mpii / "gt.mat", {"other": np.ones(1)})

    with pytest.raises(HwlError, match=r"gt\.mat has no array 'headboxes_src'"):
        converted_mpii(mpii, mpii / "gt.mat")


@pytest.mark.parametrize(
    ("field", "value"),
    [("scale", -1.0), ("joints", [[0.0, 0.0]] * 15), ("joints_vis", [2] * 16), ("image", None)],
)
def test_mpii_bad_entry_is_told_with_its_place(mpii: Path, field: str, value: object) -> None:
    entries = [mpii_entry("a.jpg"), mpii_entry("a.jpg") | {field: value}]
    (mpii / "mpii_val.json").write_text(json.dumps(entries))

    with pytest.raises(HwlError, match=rf"mpii_val\.json .*\$\[1\]\.{field}"):
        converted_mpii(mpii)


def test_mpii_output_that_is_the_input_is_refused_and_kept(mpii: Path) -> None:
    source = mpii / "mpii_val.json"
    before = source.read_bytes()

    with pytest.raises(HwlError, match=r"mpii_val\.json is there already and no .* choose another"):
        convert_mpii(source, mpii, source)

    assert source.read_bytes() == before


@pytest.mark.parametrize("content", ["mine", "[]", '{"info": {"description": "my own"}}'])
def test_a_file_that_is_no_earlier_conversion_is_refused_and_kept(content: str, mpii: Path) -> None:
    (mpii / "out").mkdir()
    (mpii / "out/val.json").write_text(content)

    with pytest.raises(HwlError, match=r"val\.json is there already"):
        converted_mpii(mpii)

    assert (mpii / "out/val.json").read_text() == content


def test_lsp_leaves_other_annotations_alone(lsp: Path, tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/person_keypoints_test.json").write_text("{}")

    with pytest.raises(HwlError, match=r"keypoints_test\.json is there already"):
        convert_lsp(lsp, tmp_path)

    assert len(list((tmp_path / "annotations").iterdir())) == 1


def test_an_earlier_conversion_is_replaced(mpii: Path) -> None:
    converted_mpii(mpii)
    (mpii / "mpii_val.json").write_text(json.dumps([mpii_entry("a.jpg")]))

    assert len(converted_mpii(mpii)["annotations"]) == 1


def test_failed_write_leaves_the_old_file(mpii: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    converted_mpii(mpii)
    before = (mpii / "out/val.json").read_bytes()

    def full_disk(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full_disk)

    with pytest.raises(HwlError, match=r"cannot write .*val\.json"):
        converted_mpii(mpii)

    assert (mpii / "out/val.json").read_bytes() == before

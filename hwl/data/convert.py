"""Turn the original LSP and MPII annotations into COCO's layout, so that all data go one path.

A file in COCO's layout holds `images` (id, file_name, width, height), `annotations` (one per
person: bbox `[x, y, w, h]` and area in pixels, keypoints `[x, y, v] * K` in pixels, where `v` is 0
not annotated, 1 annotated but hidden, 2 visible) and one category with the keypoints' names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import loadmat

from hwl.errors import HwlError
from hwl.files import replacing
from hwl.skeletons import LSP, MPII, Skeleton

LSP_DESCRIPTION = "Leeds Sports Pose (Johnson and Everingham, BMVC 2010), official split"
MPII_DESCRIPTION = "MPII Human Pose (Andriluka et al., CVPR 2014)"
LSP_SPLITS = {"train": range(1, 1001), "test": range(1001, 2001)}  # image numbers
LSP_PADDING = 0.1  # of the keypoints' longer side, on every side
AREA_SHARE = 0.523  # a person's share of the box on COCO; neither LSP nor MPII publish areas
MPII_UNIT = 200  # pixels of box side per unit of MPII's scale
MPII_DROP = 15  # pixels per unit of scale that the customary crop lies below MPII's center
HEAD_SHARE = 0.6  # head size over the diagonal of the head box, by MPII's definition of PCKh


class Info(msgspec.Struct):
    """The entry `info` of a converted file."""

    description: str


class Converted(msgspec.Struct):
    """What tells that a file is an earlier conversion."""

    info: Info


class MpiiPerson(msgspec.Struct, rename={"keypoints": "joints", "keypoints_vis": "joints_vis"}):
    """One entry of `mpii_{train,val}.json`: pixels counted from 1, scale in units of 200 px."""

    image: str
    keypoints: Annotated[list[tuple[float, float]], msgspec.Meta(min_length=16, max_length=16)]
    keypoints_vis: Annotated[list[Literal[0, 1]], msgspec.Meta(min_length=16, max_length=16)]
    center: tuple[float, float]
    scale: Annotated[float, msgspec.Meta(gt=0)]


def convert_lsp(folder: Path, output_folder: Path) -> list[Path]:
    """Write `annotations/person_keypoints_{train,test}.json` of the original Leeds Sports Pose.

    The first thousand images train and the second test. A person's box is that of all keypoints,
    padded by a tenth of its longer side and clipped to the image.

    Args:
        folder: the unpacked lsp_dataset: `joints.mat`, whose array `joints` is (3, 14, 2000) with
            x, y in pixels and 1 where the keypoint is hidden, and `images/im0001.jpg` to
            im2000.jpg.
        output_folder: where `annotations/` goes.

    Returns:
        The two files.

    Raises:
        HwlError: a file is missing or unreadable, the array is of another shape, or a file is in
            the way that is no earlier conversion of LSP.
    """
    outputs = {
        split: output_folder / "annotations" / f"person_keypoints_{split}.json"
        for split in LSP_SPLITS
    }
    for output in outputs.values():
        _check_replaceable(output, LSP_DESCRIPTION)
    path = folder / "joints.mat"
    table = _read_mat(path, "joints", (3, len(LSP), 2000))
    for split, numbers in LSP_SPLITS.items():
        images, annotations = [], []
        for number in numbers:
            image = _image_entry(number, folder / "images", f"im{number:04d}.jpg")
            xy, hidden = table[:2, :, number - 1].T, table[2, :, number - 1]
            keypoints = np.column_stack([xy, np.where(hidden == 1, 1, 2)])
            box = _padded_box(xy, image["width"], image["height"])
            images.append(image)
            annotations.append(_person(number, number, box, keypoints))
        _write(outputs[split], LSP_DESCRIPTION, images, annotations, LSP)
    return list(outputs.values())


def convert_mpii(
    annotation_json: Path,
    image_folder: Path,
    output: Path,
    ground_truth_mat: Path | None = None,
) -> Path:
    """Convert the field's usual `mpii_train.json` or `mpii_val.json`.

    As HRNet and mmpose read them: the center moves down by 15 px per unit of scale, the box is a
    square of 200 px per unit of scale around it, unclipped and without the padding of 1.25 that the
    data code applies, and pixels count from 0. Annotation ids count the entries from 1.

    Args:
        annotation_json: the file to convert.
        image_folder: MPII's images.
        output: the annotation file to write.
        ground_truth_mat: `mpii_gt_val.mat`, whose `headboxes_src` (2 corners, x and y, N) has a
            head box for each entry; it adds `head_size` in pixels, by which PCKh divides.

    Returns:
        `output`.

    Raises:
        HwlError: a file is missing, unreadable or does not fit the other, or `output` is there and
            no earlier conversion of MPII.
    """
    _check_replaceable(output, MPII_DESCRIPTION)
    persons = _read_mpii(annotation_json)
    head_sizes = None
    if ground_truth_mat is not None:
        head_boxes = _read_mat(ground_truth_mat, "headboxes_src", (2, 2, len(persons)))
        head_sizes = HEAD_SHARE * np.linalg.norm(head_boxes[1] - head_boxes[0], axis=0)
    images: dict[str, dict[str, Any]] = {}
    annotations = []
    for index, person in enumerate(persons):
        if person.image not in images:
            images[person.image] = _image_entry(len(images) + 1, image_folder, person.image)
        annotated = np.array(person.keypoints_vis, bool)
        xy = np.where(annotated[:, None], np.array(person.keypoints) - 1, 0)
        side = MPII_UNIT * person.scale
        center = np.array(person.center) - 1 + (0, MPII_DROP * person.scale)
        box = np.array([*(center - side / 2), side, side])
        keypoints = np.column_stack([xy, 2 * annotated])
        annotation = _person(index + 1, images[person.image]["id"], box, keypoints)
        if head_sizes is not None:
            annotation["head_size"] = round(float(head_sizes[index]), 4)
        annotations.append(annotation)
    _write(output, MPII_DESCRIPTION, list(images.values()), annotations, MPII)
    return output


def _check_replaceable(path: Path, description: str) -> None:
    """HwlError where there is a file that is no earlier conversion of the same data set."""
    if not path.exists():
        return
    try:
        told = msgspec.json.decode(path.read_bytes(), type=Converted).info.description
    except (OSError, ValueError):
        told = ""
    if told != description:
        raise HwlError(
            f"{path} is there already and no earlier conversion: choose another output, or move it "
            "away"
        )


def _read_mat(path: Path, name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    try:
        contents = loadmat(path)
    except Exception as error:  # scipy's errors at a damaged file have no common base
        raise HwlError(f"cannot read {path} ({error}): take the published file") from error
    if name not in contents:
        raise HwlError(f"{path} has no array {name!r}: take the published file")
    array = contents[name]
    if array.shape != shape or not np.issubdtype(array.dtype, np.number):
        raise HwlError(f"{path}: {name!r} has shape {array.shape}, expected numbers of {shape}")
    finite = np.isfinite(array).all(axis=(0, 1))
    if not finite.all():
        entry = int(np.argmin(finite)) + 1
        raise HwlError(f"{path}: {name!r} holds a number that is not finite in entry {entry}")
    return array.astype(np.float64)


def _read_mpii(path: Path) -> list[MpiiPerson]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[MpiiPerson])
    except (OSError, ValueError) as error:  # the message names the entry: $[3].scale
        raise HwlError(f"cannot read {path} as MPII's annotations: {error}") from error


def _image_entry(image_id: int, folder: Path, name: str) -> dict[str, Any]:
    try:
        with Image.open(folder / name) as image:  # reads the header only
            width, height = image.size
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise HwlError(f"cannot read {folder / name} ({error}): unpack it there") from error
    return {"id": image_id, "file_name": name, "width": width, "height": height}


def _padded_box(xy: NDArray[np.float64], width: int, height: int) -> NDArray[np.float64]:
    """Keypoints (K, 2) to `[x, y, w, h]`, inside the image."""
    low, high = xy.min(axis=0), xy.max(axis=0)
    padding = LSP_PADDING * (high - low).max()
    low, high = np.clip([low - padding, high + padding], 0, [width, height])
    return np.concatenate([low, high - low])


def _person(
    annotation_id: int, image_id: int, box: NDArray[np.float64], keypoints: NDArray[np.float64]
) -> dict[str, Any]:
    """One annotation; keypoints are (K, 3)."""
    flat = [
        value
        for x, y, visibility in keypoints.tolist()
        for value in (round(x, 2), round(y, 2), int(visibility))
    ]
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [round(value, 2) for value in box.tolist()],
        "area": round(AREA_SHARE * float(box[2] * box[3]), 2),
        "num_keypoints": int(np.count_nonzero(keypoints[:, 2])),
        "keypoints": flat,
    }


def _write(
    path: Path,
    description: str,
    images: list[dict[str, Any]],
    annotations: list[dict[str, Any]],
    skeleton: Skeleton,
) -> None:
    content = {
        "info": {"description": description},
        "images": images,
        "annotations": annotations,
        "categories": [skeleton.category()],
    }
    try:
        with replacing(path) as partial:
            partial.write_bytes(msgspec.json.encode(content))
    except OSError as error:
        raise HwlError(f"cannot write {path}: {error}") from error

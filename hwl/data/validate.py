"""What must hold for the numbers of a data set before anything is computed from them.

A data set is checked once, when it is loaded, on whole arrays: COCO train2017 has 262,465 persons.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hwl.data.coco_format import CocoCategory
from hwl.errors import HwlError

FARTHEST = 1e6  # pixels; a coordinate beyond it is a mistake
LARGEST_AREA = 1e10  # square pixels; COCO's evaluation leaves out larger persons


def check_persons(
    path: Path,
    ids: np.ndarray,
    boxes: np.ndarray,
    areas: np.ndarray,
    keypoints: np.ndarray,
    head_sizes: np.ndarray,
) -> None:
    """HwlError, naming file and annotation, where a person's numbers are impossible.

    A box without extent or an area of 0 is possible, see `Annotations.annotated`.

    Args:
        path: the annotation file.
        ids: (P,) annotation ids.
        boxes: (P, 4) x, y, width, height in image pixels.
        areas: (P,) square pixels, from 0 to LARGEST_AREA.
        keypoints: (P, K, 3) x, y in image pixels, visibility 0, 1 or 2.
        head_sizes: (P,) pixels, positive or NaN.
    """
    visibility = keypoints[:, :, 2]
    known = (visibility == 0) | (visibility == 1) | (visibility == 2)
    for wrong, what in (
        (~_near(boxes).all(axis=1), "a 'bbox' with numbers beyond a million pixels"),
        (~(areas >= 0) | (areas > LARGEST_AREA), f"an 'area' outside 0..{LARGEST_AREA:.0e}"),
        (~_near(keypoints[:, :, :2]).all(axis=(1, 2)), "'keypoints' beyond a million pixels"),
        (~known.all(axis=1), "'keypoints' with a visibility other than 0, 1 and 2"),
        (head_sizes <= 0, "a 'head_size' that is not positive"),
    ):
        if wrong.any():
            raise HwlError(
                f"{path}: annotation {ids[wrong.argmax()]} has {what} ({wrong.sum()} such "
                "annotations); correct the file"
            )


def check_detections(path: Path, entries: Sequence[int], boxes: np.ndarray) -> None:
    """HwlError, naming file and entry, where a detected box is far away or has no extent.

    A box may lie across the image's border or outside, as a detector may put it.

    Args:
        path: the file of detections.
        entries: (B,) the boxes' places in the file, counted from 0.
        boxes: (B, 4) x, y, width, height in image pixels.
    """
    sides = boxes[:, 2:]
    for wrong, what in (
        (~_near(boxes).all(axis=1), "a 'bbox' with numbers beyond a million pixels"),
        (~(sides >= 0).all(axis=1) | ~(sides > 0).any(axis=1), "a 'bbox' without extent"),
    ):
        if wrong.any():
            first = entries[int(wrong.argmax())]
            raise HwlError(
                f"{path}: entry {first} has {what} ({wrong.sum()} such entries); correct the file"
            )


def check_categories(
    path: Path,
    categories: Sequence[CocoCategory],
    category_id: int,
    ids: np.ndarray,
    category_ids: np.ndarray,
) -> None:
    """HwlError where annotations would be left out by a mistake in their categories.

    Args:
        path: the annotation file.
        categories: its categories.
        category_id: the one with keypoints.
        ids: (A,) ids of all annotations.
        category_ids: (A,) their categories.
    """
    listed = [category.id for category in categories]
    if len(set(listed)) != len(listed):
        raise HwlError(f"{path}: an id occurs twice in 'categories'; give each its own")
    unlisted = ~np.isin(category_ids, listed)
    if unlisted.any():
        first = unlisted.argmax()
        raise HwlError(
            f"{path}: annotation {ids[first]} has category_id {category_ids[first]}, which "
            f"'categories' does not list ({unlisted.sum()} such annotations); correct the file"
        )
    if len(ids) and not (category_ids == category_id).any():
        raise HwlError(
            f"{path}: none of its {len(ids)} annotations is of category {category_id}, the one "
            "with keypoints; correct their category_id"
        )


def _near(coordinates: np.ndarray) -> np.ndarray:
    """Where coordinates are finite and no more than FARTHEST from 0; written so that NaN is not."""
    return np.abs(coordinates) <= FARTHEST

"""Each test person's own numbers, kept so that runs can be compared person by person."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwl.data.annotations import Annotations
from hwl.errors import HwlError
from hwl.evaluation.oks import oks_to_truth
from hwl.files import replacing
from hwl.inference.poses import Poses

PERSONS_FILE = "persons.npz"


@dataclass(frozen=True)
class Persons:
    """The annotated persons of a split as one run predicted them in their ground-truth boxes.

    Attributes:
        annotation_ids: (Q,) int64.
        image_ids: (Q,) int64.
        oks: (Q,) float32 object keypoint similarity to the truth.
    """

    annotation_ids: np.ndarray
    image_ids: np.ndarray
    oks: np.ndarray


def persons_of(annotations: Annotations, poses: Poses) -> Persons:
    """Score each annotated person.

    Args:
        annotations: ground truth.
        poses: predictions in `annotations.ground_truth_boxes()`, in order.
    """
    persons = annotations.annotated()
    return Persons(
        annotation_ids=annotations.ids[persons],
        image_ids=annotations.image_ids[annotations.image_index[persons]],
        oks=oks_to_truth(annotations, poses.keypoints).astype(np.float32),
    )


def write_persons(path: Path, persons: Persons) -> None:
    """Write a compressed npz file, the same bytes for the same numbers."""
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **vars(persons))


def read_persons(path: Path) -> Persons:
    """Read what `write_persons` wrote.

    Raises:
        HwlError: the file is missing or broken.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Persons(**arrays)
    except Exception as error:  # a damaged archive can fail with nearly any exception
        raise HwlError(f"{path} is missing or broken ({error}); evaluate the run again") from error

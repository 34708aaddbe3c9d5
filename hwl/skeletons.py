"""Keypoint sets as data: names, limbs and OKS sigmas of COCO-17, MPII-16 and LSP-14.

Flip pairs and body halves are derived from the keypoint names, so that a new skeleton needs no
hand-written index lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hwl.errors import HwlError

# A keypoint whose name contains one of these belongs to the lower half of the body.
LOWER_BODY = ("hip", "knee", "ankle", "foot", "heel", "toe", "pelvis")
# OKS sigma of a keypoint of which nothing is known: the mean of COCO's seventeen, rounded.
DEFAULT_SIGMA = 0.06


@dataclass(frozen=True)
class Skeleton:
    """A named set of K keypoints.

    Attributes:
        name: short name, for messages and tables.
        keypoints: K keypoint names; `left_x` and `right_x` are a flip pair.
        limbs: pairs of zero-based keypoint indices, for drawing.
        sigmas: K OKS constants (COCO's per-keypoint standard deviations, relative to object scale).
    """

    name: str
    keypoints: tuple[str, ...]
    limbs: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.keypoints)

    @cached_property
    def flip(self) -> np.ndarray:
        """(K,) int64: the keypoint that takes each keypoint's place in a mirrored image."""
        swap = {"left": "right", "right": "left"}
        mirrored = []
        for keypoint in self.keypoints:
            side, _, rest = keypoint.partition("_")
            partner = f"{swap[side]}_{rest}" if side in swap else keypoint
            if partner not in self.keypoints:
                raise HwlError(
                    f"skeleton {self.name}: keypoint '{keypoint}' has no partner '{partner}'"
                )
            mirrored.append(self.keypoints.index(partner))
        return np.array(mirrored, dtype=np.int64)

    @cached_property
    def upper_body(self) -> np.ndarray:
        """(K,) bool: True for keypoints above the hips (half-body augmentation)."""
        return np.array(
            [not any(part in keypoint for part in LOWER_BODY) for keypoint in self.keypoints]
        )

    def category(self) -> dict[str, object]:
        """The person category of a COCO-format file with these keypoints."""
        return {
            "supercategory": "person",
            "id": 1,
            "name": "person",
            "keypoints": list(self.keypoints),
            "skeleton": [(a + 1, b + 1) for a, b in self.limbs],
        }

    def index(self, keypoint: str) -> int:
        """Zero-based index of a keypoint by name; raises HwlError for one it does not have."""
        if keypoint not in self.keypoints:
            raise HwlError(f"skeleton {self.name} has no keypoint '{keypoint}'")
        return self.keypoints.index(keypoint)


COCO = Skeleton(
    name="COCO-17",
    keypoints=(
        "nose",
        "left_eye",
        "right_eye",
        "left_ear",
        "right_ear",
        "left_shoulder",
        "right_shoulder",
        "left_elbow",
        "right_elbow",
        "left_wrist",
        "right_wrist",
        "left_hip",
        "right_hip",
        "left_knee",
        "right_knee",
        "left_ankle",
        "right_ankle",
    ),
    limbs=(
        (15, 13),
        (13, 11),
        (16, 14),
        (14, 12),
        (11, 12),
        (5, 11),
        (6, 12),
        (5, 6),
        (5, 7),
        (6, 8),
        (7, 9),
        (8, 10),
        (1, 2),
        (0, 1),
        (0, 2),
        (1, 3),
        (2, 4),
        (3, 5),
        (4, 6),
    ),
    # Published with the COCO keypoint task: 0.026 for the nose up to 0.107 for the hips.
    sigmas=(
        *(0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072),
        *(0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089),
    ),
)

MPII = Skeleton(
    name="MPII-16",
    keypoints=(
        "right_ankle",
        "right_knee",
        "right_hip",
        "left_hip",
        "left_knee",
        "left_ankle",
        "pelvis",
        "thorax",
        "upper_neck",
        "head_top",
        "right_wrist",
        "right_elbow",
        "right_shoulder",
        "left_shoulder",
        "left_elbow",
        "left_wrist",
    ),
    limbs=(
        *((0, 1), (1, 2), (2, 6), (6, 3), (3, 4), (4, 5), (6, 7), (7, 8), (8, 9)),
        *((8, 12), (12, 11), (11, 10), (8, 13), (13, 14), (14, 15)),
    ),
    # COCO's constants where the keypoint is the same, its shoulder's for trunk and head.
    sigmas=(
        *(0.089, 0.087, 0.107, 0.107, 0.087, 0.089, 0.107, 0.079, 0.079, 0.079),
        *(0.062, 0.072, 0.079, 0.079, 0.072, 0.062),
    ),
)

LSP = Skeleton(
    name="LSP-14",
    keypoints=(
        "right_ankle",
        "right_knee",
        "right_hip",
        "left_hip",
        "left_knee",
        "left_ankle",
        "right_wrist",
        "right_elbow",
        "right_shoulder",
        "left_shoulder",
        "left_elbow",
        "left_wrist",
        "neck",
        "head_top",
    ),
    limbs=(
        *((0, 1), (1, 2), (5, 4), (4, 3), (2, 3), (6, 7), (7, 8), (11, 10), (10, 9)),
        *((8, 9), (12, 13), (8, 12), (9, 12)),
    ),
    sigmas=(
        *(0.089, 0.087, 0.107, 0.107, 0.087, 0.089, 0.062, 0.072, 0.079, 0.079),
        *(0.072, 0.062, 0.079, 0.079),
    ),
)

KNOWN = (COCO, MPII, LSP)


def skeleton_from_category(
    name: str, keypoints: Sequence[str], limbs: Sequence[tuple[int, int]]
) -> Skeleton:
    """The skeleton of a COCO-format category: a known one where its keypoints agree, else new.

    Args:
        name: the category's name.
        keypoints: its `keypoints`.
        limbs: its `skeleton`, pairs of one-based keypoint numbers.

    Raises:
        HwlError: a keypoint is named twice, a limb names a keypoint that is not there, or a left
            keypoint has no right partner.
    """
    for known in KNOWN:
        if tuple(keypoints) == known.keypoints:
            return known
    if len(set(keypoints)) != len(keypoints):
        raise HwlError(f"category '{name}': its keypoints name a keypoint twice")
    if any(not 1 <= end <= len(keypoints) for limb in limbs for end in limb):
        raise HwlError(
            f"category '{name}': its skeleton names keypoints outside 1..{len(keypoints)}"
        )
    skeleton = Skeleton(
        name=name,
        keypoints=tuple(keypoints),
        limbs=tuple((a - 1, b - 1) for a, b in limbs),
        sigmas=(DEFAULT_SIGMA,) * len(keypoints),
    )
    _ = skeleton.flip  # fail here, where the file can still be named
    return skeleton

"""Keypoint sets as data: names, limbs and OKS sigmas of COCO-17, MPII-16 and LSP-14.

Flip pairs and body halves are derived from the keypoint names, so that a new skeleton needs no
hand-written index lists; a category's `flip_pairs` says otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from hwl.errors import HwlError

# A keypoint whose name contains one of these belongs to the lower half of the body.
LOWER_BODY = ("hip", "knee", "ankle", "foot", "heel", "toe", "pelvis")
# How a name tells its side, the surest first: a word or a letter of its own (Left_Eye, eyeLeft,
# l-eye, LEye, eye.L) or one grown together with the rest (lefteye, leye).
SIDES = (r"\b(left|right)\b", r"\b([lr])\b", r"^(left|right)", r"(left|right)$", r"^([lr])")
# Words of a name: capitals in a row, a capital and small letters, digits, other letters.
WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_]")
# OKS sigma of a keypoint of which nothing is known: a little below the mean 0.067 of COCO's.
DEFAULT_SIGMA = 0.06


@dataclass(frozen=True)
class Skeleton:
    """A named set of K keypoints.

    Attributes:
        name: short name, for messages and tables.
        keypoints: K keypoint names.
        limbs: pairs of zero-based keypoint indices, for drawing.
        sigmas: K OKS constants (COCO's per-keypoint standard deviations, relative to object scale).
        flip_pairs: (left, right) names of keypoints that change places in a mirrored image, or
            None to derive them from the names.
    """

    name: str
    keypoints: tuple[str, ...]
    limbs: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]
    flip_pairs: tuple[tuple[str, str], ...] | None = None

    def __len__(self) -> int:
        return len(self.keypoints)

    @cached_property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """(left, right) names of the keypoints that change places in a mirrored image.

        Raises:
            HwlError: a name says "left" or "right" and has no partner, or `flip_pairs` names a
                keypoint that is not there or twice.
        """
        pairs = _named_pairs(self.keypoints) if self.flip_pairs is None else self.flip_pairs
        named = [keypoint for pair in pairs for keypoint in pair]
        for keypoint in named:
            if keypoint not in self.keypoints or named.count(keypoint) > 1:
                raise HwlError(
                    f"skeleton {self.name}: 'flip_pairs' names '{keypoint}', which is no keypoint "
                    "or is in it twice"
                )
        for keypoint in self.keypoints:
            if self.flip_pairs is None and keypoint not in named and _side(keypoint, SIDES[0]):
                raise HwlError(
                    f"skeleton {self.name}: keypoint '{keypoint}' has no partner on the other "
                    "side; correct the names, or give the category its 'flip_pairs': "
                    "[[left, right], ...]"
                )
        return pairs

    @cached_property
    def flip(self) -> np.ndarray:
        """(K,) int64: the keypoint that takes each keypoint's place in a mirrored image."""
        mirrored = np.arange(len(self), dtype=np.int64)
        for pair in self.pairs:
            left, right = (self.keypoints.index(keypoint) for keypoint in pair)
            mirrored[left], mirrored[right] = right, left
        return mirrored

    @cached_property
    def upper_body(self) -> np.ndarray:
        """(K,) bool: True for keypoints above the hips (half-body augmentation)."""
        return np.array(
            [
                not any(part in keypoint.lower() for part in LOWER_BODY)
                for keypoint in self.keypoints
            ]
        )

    def category(self) -> dict[str, object]:
        """The person category of a COCO-format file with these keypoints."""
        category: dict[str, object] = {
            "supercategory": "person",
            "id": 1,
            "name": "person",
            "keypoints": list(self.keypoints),
            "skeleton": [(a + 1, b + 1) for a, b in self.limbs],
        }
        if self.flip_pairs is not None:
            category["flip_pairs"] = [list(pair) for pair in self.flip_pairs]
        return category

    def index(self, keypoint: str) -> int:
        """Zero-based index of a keypoint such as "left_hip", whichever way its name is spelled.

        Raises:
            HwlError: it has none of that name.
        """
        if keypoint in self.keypoints:
            return self.keypoints.index(keypoint)
        meant = [name for name in self.keypoints if _spelling(name) == _spelling(keypoint)]
        if len(meant) != 1:
            raise HwlError(f"skeleton {self.name} has no keypoint '{keypoint}'")
        return self.keypoints.index(meant[0])


def _side(keypoint: str, pattern: str) -> tuple[str, str] | None:
    """Side ("l" or "r") and the rest of a name by one of SIDES, None where it tells none."""
    words = " ".join(WORDS.findall(keypoint)).lower()
    found = list(re.finditer(pattern, words))
    if len(found) != 1:
        return None
    rest = words[: found[0].start()] + words[found[0].end() :]
    return found[0][1][0], rest.replace(" ", "")


def _spelling(keypoint: str) -> tuple[str, str]:
    """Side ("" for none) and rest of a name, the same for all its spellings in words."""
    rest = "".join(WORDS.findall(keypoint)).lower()
    return _side(keypoint, SIDES[0]) or _side(keypoint, SIDES[1]) or ("", rest)


def _named_pairs(keypoints: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """(left, right) names that differ in their side alone, by the surest way that finds both."""
    partner: dict[str, str] = {}
    for pattern in SIDES:
        sides: dict[tuple[str, str], list[str]] = {}
        for keypoint in keypoints:
            found = _side(keypoint, pattern)
            if found and keypoint not in partner and keypoint not in partner.values():
                sides.setdefault(found, []).append(keypoint)
        for (side, rest), names in sides.items():
            others = sides.get(("r", rest), [])
            if side == "l" and len(names) == len(others) == 1:
                partner[names[0]] = others[0]
    return tuple((left, partner[left]) for left in keypoints if left in partner)


COCO = Skeleton(
    name="COCO-17",
    keypoints=(
        "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder",
        "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip",
        "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
    ),
    limbs=(
        (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8),
        (7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
    ),
    # Published with the COCO keypoint task: 0.026 for the nose up to 0.107 for the hips.
    sigmas=(
        0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107,
        0.087, 0.087, 0.089, 0.089,
    ),
)  # fmt: skip

MPII = Skeleton(
    name="MPII-16",
    keypoints=(
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis",
        "thorax", "upper_neck", "head_top", "right_wrist", "right_elbow", "right_shoulder",
        "left_shoulder", "left_elbow", "left_wrist",
    ),
    limbs=(
        (0, 1), (1, 2), (2, 6), (6, 3), (3, 4), (4, 5), (6, 7), (7, 8), (8, 9), (8, 12), (12, 11),
        (11, 10), (8, 13), (13, 14), (14, 15),
    ),
    # COCO's constants where the keypoint is the same, its shoulder's for trunk and head.
    sigmas=(
        0.089, 0.087, 0.107, 0.107, 0.087, 0.089, 0.107, 0.079, 0.079, 0.079, 0.062, 0.072, 0.079,
        0.079, 0.072, 0.062,
    ),
)  # fmt: skip

LSP = Skeleton(
    name="LSP-14",
    keypoints=(
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle",
        "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow",
        "left_wrist", "neck", "head_top",
    ),
    limbs=(
        (0, 1), (1, 2), (5, 4), (4, 3), (2, 3), (6, 7), (7, 8), (11, 10), (10, 9), (8, 9),
        (12, 13), (8, 12), (9, 12),
    ),
    sigmas=(
        0.089, 0.087, 0.107, 0.107, 0.087, 0.089, 0.062, 0.072, 0.079, 0.079, 0.072, 0.062, 0.079,
        0.079,
    ),
)  # fmt: skip

KNOWN = (COCO, MPII, LSP)
_SIGMAS = {
    _spelling(keypoint): sigma
    for skeleton in reversed(KNOWN)
    for keypoint, sigma in zip(skeleton.keypoints, skeleton.sigmas, strict=True)
}


def known_sigmas(keypoints: Sequence[str]) -> list[float | None]:
    """OKS sigmas of a known skeleton's keypoints of those names in any spelling, else None.

    A side that is grown together with the rest counts where both are there: "rear" alone is no ear.
    """
    paired = {keypoint for pair in _named_pairs(keypoints) for keypoint in pair}

    def sigma(keypoint: str) -> float | None:
        ways = [_spelling(keypoint)]
        if keypoint in paired:
            ways += [found for pattern in SIDES if (found := _side(keypoint, pattern))]
        return next((_SIGMAS[way] for way in ways if way in _SIGMAS), None)

    return [sigma(keypoint) for keypoint in keypoints]


def skeleton_from_category(
    name: str,
    keypoints: Sequence[str],
    limbs: Sequence[tuple[int, int]],
    flip_pairs: Sequence[tuple[str, str]] | None = None,
) -> Skeleton:
    """The skeleton of a COCO-format category: a known one where its keypoints agree, else new.

    Args:
        name: the category's name.
        keypoints: its `keypoints`.
        limbs: its `skeleton`, pairs of one-based keypoint numbers.
        flip_pairs: its `flip_pairs`, pairs of (left, right) names; None to derive them from the
            names. This entry is not COCO's but of this package.

    Raises:
        HwlError: a keypoint is named twice, a limb names a keypoint that is not there, a left
            keypoint has no right partner, or `flip_pairs` are wrong.
    """
    given = None if flip_pairs is None else tuple((left, right) for left, right in flip_pairs)
    for known in KNOWN:
        if tuple(keypoints) == known.keypoints:
            return known if given is None else _checked(replace(known, flip_pairs=given))
    if len(set(keypoints)) != len(keypoints):
        raise HwlError(f"category '{name}': its keypoints name a keypoint twice")
    if any(not 1 <= end <= len(keypoints) for limb in limbs for end in limb):
        raise HwlError(
            f"category '{name}': its skeleton names keypoints outside 1..{len(keypoints)}"
        )
    return _checked(
        Skeleton(
            name=name,
            keypoints=tuple(keypoints),
            limbs=tuple((a - 1, b - 1) for a, b in limbs),
            sigmas=tuple(sigma or DEFAULT_SIGMA for sigma in known_sigmas(keypoints)),
            flip_pairs=given,
        )
    )


def _checked(skeleton: Skeleton) -> Skeleton:
    """The skeleton; its pairs are looked at here, where the file can still be named."""
    _ = skeleton.pairs
    return skeleton

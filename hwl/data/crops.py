"""From a person box to a model input: crops, the paper's augmentation, one affine warp.

Conventions of mmpose 0.x, which the paper's code builds on: a crop is a rotated rectangle of the
image with the input's aspect; coordinates are pixels, and a mirrored x is width - 1 - x.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from hwl.skeletons import Skeleton

PADDING = 1.25  # crop size over box size
HALF_BODY_PADDING = 1.5  # the same over the extent of half a body's keypoints


@dataclass(frozen=True)
class Crop:
    """A rectangle of the image that is warped onto the model input.

    Attributes:
        center: (2,) x, y in image pixels.
        scale: (2,) width, height in image pixels, in the input's aspect.
        rotation: degrees by which the crop shows the image turned counterclockwise.
        mirrored: the crop is flipped left to right, about its own center.
    """

    center: np.ndarray
    scale: np.ndarray
    rotation: float = 0.0
    mirrored: bool = False

    def matrix(self, input_size: tuple[int, int]) -> np.ndarray:
        """(2, 3) float64 affine map from image pixels to pixels of a (height, width) input."""
        height, width = input_size
        factor = width / self.scale[0]
        cos, sin = np.cos(np.deg2rad(self.rotation)), np.sin(np.deg2rad(self.rotation))
        turn = factor * np.array([[cos, sin], [-sin, cos]])
        shift = np.array([width / 2, height / 2]) - turn @ self.center
        matrix = np.column_stack([turn, shift])
        if self.mirrored:
            matrix[0] *= -1
            matrix[0, 2] += width - 1
        return matrix


@dataclass(frozen=True)
class Augmentation:
    """The paper's training augmentation; probabilities and ranges as in mmpose 0.x.

    Attributes:
        flip: probability of a left-right flip.
        half_body: probability of cropping to the upper or lower half, where more than
            `half_body_keypoints` keypoints are annotated.
        half_body_keypoints: see above.
        scale: standard deviation of the size factor around 1, clipped to 1 +- scale.
        rotate: probability of a rotation.
        rotation: its standard deviation in degrees, clipped to twice that.
        shift: probability of moving the center.
        shift_range: the move is uniform within +- half of this, in box sizes.
    """

    flip: float = 0.5
    half_body: float = 0.3
    half_body_keypoints: int = 8
    scale: float = 0.5
    rotate: float = 0.6
    rotation: float = 40.0
    shift: float = 0.3
    shift_range: float = 0.4


def clip_boxes(boxes: np.ndarray, image_sizes: np.ndarray) -> np.ndarray:
    """Ground-truth boxes clipped to their images as mmpose 0.x does, from first to last pixel.

    Detected boxes are not clipped in the paper's protocol.

    Args:
        boxes: (P, 4) x, y, width, height in image pixels.
        image_sizes: (P, 2) width, height in pixels.

    Returns:
        (P, 4); width or height is not positive where nothing wider than a pixel is in the image.
    """
    low = np.maximum(boxes[:, :2], 0)
    high = np.minimum(image_sizes - 1, low + np.maximum(boxes[:, 2:] - 1, 0))
    return np.concatenate([low, high - low], axis=1)


def box_crop(box: np.ndarray, input_size: tuple[int, int], shift: np.ndarray | None = None) -> Crop:
    """The crop of a person box as it is: moved, widened to the input's aspect, padded.

    Args:
        box: (4,) x, y, width, height in image pixels; at least one of its sides is positive.
        input_size: (height, width) in pixels.
        shift: (2,) move of the center in box sizes, for training.
    """
    corner, size = box[:2], box[2:]
    center = corner + size / 2
    if shift is not None:
        center = center + shift * size
    return Crop(center, PADDING * _widen(size, input_size))


def augment(
    crop: Crop,
    keypoints: np.ndarray,
    skeleton: Skeleton,
    input_size: tuple[int, int],
    how: Augmentation,
    rng: np.random.Generator,
) -> Crop:
    """A random variation of a person's crop: flip, half body, scale, rotation, in this order.

    Args:
        crop: from `box_crop`.
        keypoints: (K, 3) x, y in image pixels and visibility.
        skeleton: names the upper half of the body.
        input_size: (height, width) in pixels.
        how: probabilities and ranges.
        rng: source of all randomness; the same number of draws is made for every person.
    """
    flip, half, upper_first, rotate = rng.random(4)
    scale, angle = rng.standard_normal(2)
    visible = keypoints[:, 2] > 0
    if visible.sum() > how.half_body_keypoints and half < how.half_body:
        crop = _half_body(crop, keypoints, skeleton, input_size, upper_first)
    grown = crop.scale * np.clip(1 + how.scale * scale, 1 - how.scale, 1 + how.scale)
    turn = np.clip(how.rotation * angle, -2 * how.rotation, 2 * how.rotation)
    return replace(
        crop,
        scale=grown,
        rotation=float(turn) if rotate < how.rotate else 0.0,
        mirrored=bool(flip < how.flip),
    )


# mmpose draws `randn() < 0.5` here, so that the upper half comes first with this probability.
UPPER_FIRST = 0.6915


def _half_body(
    crop: Crop,
    keypoints: np.ndarray,
    skeleton: Skeleton,
    input_size: tuple[int, int],
    draw: float,
) -> Crop:
    visible = keypoints[:, 2] > 0
    upper = keypoints[visible & skeleton.upper_body, :2]
    lower = keypoints[visible & ~skeleton.upper_body, :2]
    first, second = (upper, lower) if draw < UPPER_FIRST else (lower, upper)
    chosen = first if len(first) > 2 else second
    extent = np.ptp(chosen, axis=0) if len(chosen) > 1 else np.zeros(2)
    if not extent.any():
        return crop
    scale = HALF_BODY_PADDING * _widen(extent, input_size)
    return replace(crop, center=chosen.mean(axis=0), scale=scale)


def _widen(size: np.ndarray, input_size: tuple[int, int]) -> np.ndarray:
    """The smallest (width, height) in the input's aspect that holds `size`."""
    height, width = input_size
    return max(size[0] / width, size[1] / height) * np.array([width, height], dtype=np.float64)


def warp(image: np.ndarray, crop: Crop, input_size: tuple[int, int]) -> np.ndarray:
    """The crop as a model input, bilinear, black outside the image.

    Args:
        image: (H, W, 3) uint8 RGB.

    Returns:
        (3, height, width) uint8 RGB.
    """
    height, width = input_size
    warped = cv2.warpAffine(image, crop.matrix(input_size), (width, height))
    return np.ascontiguousarray(warped.transpose(2, 0, 1))


def keypoints_to_input(
    keypoints: np.ndarray, crop: Crop, input_size: tuple[int, int], skeleton: Skeleton
) -> np.ndarray:
    """A person's keypoints (K, 3) in image pixels as they lie in the crop, in input pixels.

    In a mirrored crop left and right keypoints have changed places. Visibility is kept.
    """
    matrix = crop.matrix(input_size)
    moved = keypoints.astype(np.float64).copy()
    moved[:, :2] = keypoints[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    return moved[skeleton.flip] if crop.mirrored else moved


def keypoints_to_image(
    keypoints: np.ndarray, centers: np.ndarray, scales: np.ndarray, input_size: tuple[int, int]
) -> np.ndarray:
    """Keypoints of N upright crops back in their images: center - scale / 2 + x * scale / input.

    Args:
        keypoints: (N, K, 2) in input pixels.
        centers: (N, 2) crop centers in image pixels.
        scales: (N, 2) crop widths and heights in image pixels.
    """
    height, width = input_size
    factor = scales / np.array([width, height])
    return (centers - scales / 2)[:, None] + keypoints * factor[:, None]

"""Images and boxes as a caller has them, checked and turned into arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps

from hwl.data.images import read_image
from hwl.errors import HwlError


def as_image(image: str | Path | np.ndarray | PIL.Image.Image) -> np.ndarray:
    """Any image as (H, W, 3) uint8 RGB; files and PIL images upright by their EXIF orientation.

    Raises:
        HwlError: a file cannot be read, or an array or Pillow's mode is none of an image.
    """
    if isinstance(image, str | Path):
        return read_image(Path(image), upright=True)
    if isinstance(image, PIL.Image.Image):
        upright = PIL.ImageOps.exif_transpose(image)
        if upright.mode.startswith("I;16"):  # which Pillow would cut off at 255
            return np.repeat((np.asarray(upright) // 256).astype(np.uint8)[:, :, None], 3, axis=2)
        if upright.mode in ("I", "F"):
            raise HwlError(f"an image of Pillow's mode {upright.mode} has no range; make it 8-bit")
        return np.array(upright.convert("RGB"))
    if image.dtype != np.uint8 or not image.size or image.ndim not in (2, 3):
        raise HwlError(
            f"an image array must be (H, W, 3) uint8 RGB, not {image.shape} {image.dtype}"
        )
    if image.ndim == 2:
        return np.repeat(image[:, :, None], 3, axis=2)
    if image.shape[2] != 3:
        raise HwlError(f"an image array must have three channels, RGB: this one is {image.shape}")
    return np.ascontiguousarray(image)


def checked_boxes(boxes_xywh: object, image: np.ndarray) -> np.ndarray:
    """Boxes as (B, 4) float64 x, y, width, height; None stands for the whole image.

    Args:
        boxes_xywh: anything that numpy makes (B, 4) numbers of, in pixels of the image.
        image: (H, W, 3).

    Raises:
        HwlError: other numbers than four a box, or a box that has no area within the image.
    """
    height, width = image.shape[:2]
    if boxes_xywh is None:
        return np.array([[0.0, 0.0, width, height]])
    try:
        boxes = np.asarray(boxes_xywh, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise HwlError(f"boxes_xywh must be numbers (B, 4): {error}") from error
    if not boxes.size:
        return np.zeros((0, 4))
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise HwlError(f"boxes_xywh must be (B, 4), x, y, width, height a box, not {boxes.shape}")
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    # Written so that NaN fails too.
    inside = (boxes[:, 2:] > 0) & (low < (width, height)) & (high > 0) & np.isfinite(high)
    if not inside.all():
        wrong = boxes[~inside.all(axis=1)][0].tolist()
        raise HwlError(
            f"box {wrong} (x, y, width, height) has no area within the image of {width}x{height} "
            "pixels"
        )
    return boxes

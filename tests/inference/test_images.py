"""What is taken for an image, and for boxes in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from hwl.errors import HwlError
from hwl.inference.images import as_image, checked_boxes


def test_a_photograph_is_turned_upright_by_its_exif_orientation(tmp_path: Path) -> None:
    pixels = np.zeros((60, 100, 3), np.uint8)
    pixels[:, :50] = 255
    turned = PIL.Image.Exif()
    turned[0x0112] = 6  # to be turned clockwise
    PIL.Image.fromarray(pixels).save(tmp_path / "photo.jpg", exif=turned)

    for image in (tmp_path / "photo.jpg", PIL.Image.open(tmp_path / "photo.jpg")):
        upright = as_image(image)
        assert upright.shape == (100, 60, 3)
        assert upright[:40].min() > 200 and upright[60:].max() < 50


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((9, 9, 3)), "must be .* uint8 RGB, not .* float64"),
        (np.zeros((9, 9, 4), np.uint8), "three channels"),
        (np.zeros((0, 9, 3), np.uint8), "must be"),
        (np.zeros(9, np.uint8), "must be"),
    ],
)
def test_an_array_that_is_no_image_is_refused(array: np.ndarray, message: str) -> None:
    with pytest.raises(HwlError, match=message):
        as_image(array)


def test_a_gray_array_becomes_rgb() -> None:
    gray = np.arange(12, dtype=np.uint8).reshape(3, 4)

    found = as_image(gray)

    assert found.shape == (3, 4, 3) and (found == gray[:, :, None]).all()


@pytest.mark.parametrize(
    "boxes",
    [
        [[10, 10, 0, 10]],
        [[10, 10, 10, -1]],
        [[100, 0, 10, 10]],
        [[-20, 0, 20, 10]],
        [[0, float("nan"), 10, 10]],
        [[0, 0, float("inf"), 10]],
        [[0, 0, 10]],
        [0, 0, 10, 10],
        "many",
        [["a", 0, 1, 1]],
    ],
)
def test_boxes_without_area_in_the_image_are_refused(boxes: object) -> None:
    with pytest.raises(HwlError, match="box"):
        checked_boxes(boxes, np.zeros((80, 100, 3), np.uint8))


def test_a_16_bit_image_of_pillow_is_that_of_its_file(tmp_path: Path) -> None:
    values = np.arange(0, 60000, 1000, dtype=np.uint16).reshape(6, 10)
    PIL.Image.fromarray(values).save(tmp_path / "a.png")

    found = as_image(PIL.Image.open(tmp_path / "a.png"))

    np.testing.assert_array_equal(found, as_image(tmp_path / "a.png"))
    assert found.max() == 59000 // 256


def test_an_image_of_floats_is_refused() -> None:
    with pytest.raises(HwlError, match="mode F has no range"):
        as_image(PIL.Image.new("F", (9, 9)))

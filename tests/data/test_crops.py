"""Crops, augmentation and warp against the paper's words written out slowly.

Image files are tested with the samples, in test_dataset.py.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hwl.data.crops import (
    Augmentation,
    Crop,
    augment,
    box_crop,
    clip_boxes,
    keypoints_to_image,
    keypoints_to_input,
    warp,
)
from hwl.skeletons import COCO

SIZES = [(256, 192), (64, 64), (64, 96)]  # height, width
NOTHING = Augmentation(flip=0, half_body=0, scale=0, rotate=0, shift=0)
DRAWS = 4000

sizes = st.sampled_from(SIZES)
crops = st.builds(
    lambda x, y, width, size, rotation, mirrored: (
        Crop(np.array([x, y]), np.array([width, width * size[0] / size[1]]), rotation, mirrored),
        size,
    ),
    *(st.floats(-50, 200), st.floats(-50, 200), st.floats(5, 500), sizes),
    *(st.floats(-80, 80), st.booleans()),
)


def crop_step_by_step(
    box: tuple[float, float, float, float],
    input_size: tuple[int, int],
    shift: tuple[float, float] = (0, 0),
) -> tuple[list[float], list[float]]:
    """Center and size by the paper's steps for a box as it is, inside the image or not."""
    x, y, w, h = box
    center = [x + w / 2 + shift[0] * w, y + h / 2 + shift[1] * h]
    aspect = input_size[1] / input_size[0]
    if w > aspect * h:
        h = w / aspect
    else:
        w = h * aspect
    return center, [1.25 * w, 1.25 * h]


@given(
    x=st.floats(-300, 300),
    y=st.floats(-300, 300),
    width=st.floats(0.5, 200),
    height=st.floats(0.5, 200),
    shift=st.none() | st.tuples(st.floats(-0.2, 0.2), st.floats(-0.2, 0.2)),
    size=sizes,
)
def test_box_crop_follows_the_papers_steps(
    x: float, y: float, width: float, height: float, shift: tuple | None, size: tuple[int, int]
) -> None:
    box = (x, y, width, height)
    moved = None if shift is None else np.array(shift)

    crop = box_crop(np.array(box), size, moved)

    center, extent = crop_step_by_step(box, size, shift or (0, 0))
    np.testing.assert_allclose(crop.center, center, atol=1e-9)
    np.testing.assert_allclose(crop.scale, extent, atol=1e-9)
    assert crop.rotation == 0 and not crop.mirrored


def clip_box_by_box(box: tuple[float, ...], image: tuple[int, int]) -> list[float]:
    """A ground-truth box clipped to an image of that width and height, in the original's words."""
    x, y, w, h = box
    x1, y1 = max(0, x), max(0, y)
    x2 = min(image[0] - 1, x1 + max(0, w - 1))
    y2 = min(image[1] - 1, y1 + max(0, h - 1))
    return [x1, y1, x2 - x1, y2 - y1]


@given(
    boxes=st.lists(st.tuples(*[st.floats(-150, 150)] * 4), min_size=1, max_size=5),
    images=st.lists(st.tuples(st.integers(1, 99), st.integers(1, 99)), min_size=5, max_size=5),
)
@example(boxes=[(0, 0, 99, 50), (0, 0, 100, 51), (-1, -1, 1, 1)], images=[(99, 50)] * 5)
@example(boxes=[(98, 49, 1, 1), (97, 48, 2, 2), (99, 50, 9, 9)], images=[(99, 50)] * 5)
def test_boxes_are_clipped_to_their_own_images(
    boxes: list[tuple[float, ...]], images: list[tuple[int, int]]
) -> None:
    images = images[: len(boxes)]

    clipped = clip_boxes(np.array(boxes, float), np.array(images))

    expected = [clip_box_by_box(box, image) for box, image in zip(boxes, images, strict=True)]
    np.testing.assert_array_equal(clipped, expected)


def test_the_upright_crop_spans_the_whole_input() -> None:
    crop = Crop(np.array([50.0, 40.0]), np.array([30.0, 40.0]))

    corners = np.array([[35, 20, 1], [65, 60, 1]]) @ crop.matrix((256, 192)).T

    np.testing.assert_allclose(corners, [[0, 0], [192, 256]], atol=1e-9)


def test_a_positive_rotation_turns_the_image_counterclockwise() -> None:
    crop = Crop(np.array([50.0, 40.0]), np.array([64.0, 64.0]), rotation=90)

    right_of_center = crop.matrix((64, 64)) @ [60, 40, 1]

    np.testing.assert_allclose(right_of_center, [32, 22], atol=1e-9)  # above the center now


@given(drawn=crops)
def test_mirroring_flips_the_crop_about_its_own_center(drawn: tuple) -> None:
    crop, size = drawn
    point = np.array([3.0, 7.0, 1])

    plain = replace(crop, mirrored=False).matrix(size) @ point
    mirrored = replace(crop, mirrored=True).matrix(size) @ point

    np.testing.assert_allclose(mirrored, [size[1] - 1 - plain[0], plain[1]], atol=1e-6)


@given(drawn=crops, seed=st.integers(0, 1000))
def test_keypoints_of_upright_crops_come_back_to_their_places(drawn: tuple, seed: int) -> None:
    crop, size = drawn
    crop = replace(crop, rotation=0, mirrored=False)
    keypoints = np.random.default_rng(seed).uniform(-50, 200, (17, 3))

    seen = keypoints_to_input(keypoints, crop, size, COCO)
    back = keypoints_to_image(seen[None, :, :2], crop.center[None], crop.scale[None], size)

    np.testing.assert_allclose(back[0], keypoints[:, :2], atol=1e-6)
    np.testing.assert_array_equal(seen[:, 2], keypoints[:, 2])


@given(drawn=crops, seed=st.integers(0, 1000))
def test_keypoints_of_turned_and_mirrored_crops_come_back_by_the_inverse_map(
    drawn: tuple, seed: int
) -> None:
    crop, size = drawn
    keypoints = np.random.default_rng(seed).uniform(-50, 200, (17, 3))

    seen = keypoints_to_input(keypoints, crop, size, COCO)
    if crop.mirrored:
        seen = seen[COCO.flip]
    inverse = np.linalg.inv(np.vstack([crop.matrix(size), [0, 0, 1]]))
    back = np.column_stack([seen[:, :2], np.ones(17)]) @ inverse.T

    np.testing.assert_allclose(back[:, :2], keypoints[:, :2], atol=1e-6)
    np.testing.assert_array_equal(seen[:, 2], keypoints[:, 2])


def test_a_flip_exchanges_left_and_right_keypoints_with_their_visibility() -> None:
    crop = Crop(np.array([32.0, 32.0]), np.array([64.0, 64.0]), mirrored=True)
    keypoints = np.zeros((17, 3))
    keypoints[COCO.index("left_wrist")] = 10, 20, 2

    seen = keypoints_to_input(keypoints, crop, (64, 64), COCO)

    assert seen[COCO.index("right_wrist")].tolist() == [53, 20, 2]
    assert seen[COCO.index("left_wrist"), 2] == 0


def test_two_flips_are_none() -> None:
    crop = Crop(np.array([32.0, 32.0]), np.array([64.0, 64.0]), mirrored=True)
    keypoints = np.random.default_rng(0).uniform(0, 64, (17, 3))

    once = keypoints_to_input(keypoints, crop, (64, 64), COCO)

    np.testing.assert_allclose(keypoints_to_input(once, crop, (64, 64), COCO), keypoints)


def test_keypoints_to_input_leaves_its_argument_alone() -> None:
    keypoints = np.ones((17, 3))

    keypoints_to_input(keypoints, Crop(np.zeros(2), np.ones(2), 30, True), (64, 64), COCO)

    assert (keypoints == 1).all()


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", [0, 33, -75])
@pytest.mark.parametrize("size", SIZES)
def test_a_marked_pixel_lies_in_the_crop_where_its_keypoint_does(
    size: tuple[int, int], rotation: float, mirrored: bool
) -> None:
    width = 40.0
    crop = Crop(
        np.array([61.0, 42.0]), np.array([width, width * size[0] / size[1]]), rotation, mirrored
    )
    image = np.zeros((90, 120, 3), np.uint8)
    image[47, 66, 1] = 255
    keypoint = np.tile([66.0, 47, 2], (17, 1))

    seen = warp(image, crop, size)

    assert seen.shape == (3, *size) and seen.dtype == np.uint8
    assert seen[0].max() == seen[2].max() == 0  # the mark is green
    y, x = np.indices(size)
    light = seen[1] / seen[1].sum()
    middle = (light * x).sum(), (light * y).sum()
    expected = keypoints_to_input(keypoint, crop, size, COCO)[0, :2]
    np.testing.assert_allclose(middle, expected, atol=1)


def test_the_crop_is_black_outside_the_image() -> None:
    crop = Crop(np.array([0.0, 0.0]), np.array([64.0, 64.0]))

    seen = warp(np.full((90, 120, 3), 255, np.uint8), crop, (64, 64))

    assert (seen[:, 32:, 32:] == 255).all()
    assert seen[:, :31].max() == seen[:, :, :31].max() == 0


def body(annotated: int) -> np.ndarray:
    """Keypoints at random places, the first so many of them annotated."""
    keypoints = np.random.default_rng(5).uniform(0, 100, (17, 3))
    keypoints[:, 2] = np.where(np.arange(17) < annotated, 2, 0)
    return keypoints


BASE = Crop(np.array([50.0, 50.0]), np.array([75.0, 100.0]))


def variations(how: Augmentation, annotated: int = 17, draws: int = DRAWS) -> list[Crop]:
    rng = np.random.default_rng(0)
    return [augment(BASE, body(annotated), COCO, (256, 192), how, rng) for _ in range(draws)]


def test_half_of_the_samples_are_flipped() -> None:
    assert np.mean([r.mirrored for r in variations(Augmentation())]) == pytest.approx(0.5, abs=0.03)


def test_six_in_ten_samples_are_rotated_by_at_most_80_degrees() -> None:
    turns = np.array([r.rotation for r in variations(Augmentation())])
    turned = turns[turns != 0]

    assert len(turned) / DRAWS == pytest.approx(0.6, abs=0.03)
    assert turned.min() == -80 and turned.max() == 80
    # Of a normal deviate 4.6 % lie beyond two deviations, 68.3 % within one.
    assert np.mean(np.abs(turned) == 80) == pytest.approx(0.046, abs=0.015)
    assert np.mean(np.abs(turned) < 40) == pytest.approx(0.683, abs=0.03)


def test_the_size_varies_between_half_and_one_and_a_half() -> None:
    factors = np.array([r.scale / BASE.scale for r in variations(Augmentation(half_body=0))])

    np.testing.assert_allclose(factors[:, 0], factors[:, 1])
    assert factors.min() == 0.5 and factors.max() == 1.5
    assert np.mean((factors[:, 0] > 0.5) & (factors[:, 0] < 1.5)) == pytest.approx(0.683, abs=0.03)
    assert factors.mean() == pytest.approx(1, abs=0.03)


def test_half_bodies_are_three_in_ten_and_of_these_69_in_100_upper() -> None:
    keypoints = body(17)[:, :2]
    crops = variations(replace(NOTHING, half_body=0.3))

    upper, lower, whole = (
        np.mean([np.allclose(r.center, center) for r in crops])
        for center in (keypoints[:11].mean(0), keypoints[11:].mean(0), BASE.center)
    )

    assert upper + lower == pytest.approx(0.3, abs=0.03) and upper + lower + whole == 1
    assert upper / (upper + lower) == pytest.approx(0.6915, abs=0.05)


def test_a_half_body_is_centered_on_its_keypoints_and_one_and_a_half_times_their_box() -> None:
    keypoints = body(17)[:11, :2]
    width, height = keypoints.max(0) - keypoints.min(0)
    width, height = max(width, height * 0.75), max(height, width / 0.75)

    crops = variations(replace(NOTHING, half_body=1), draws=20)

    upper = [crop for crop in crops if np.allclose(crop.center, keypoints.mean(0))]
    assert upper
    for crop in upper:
        np.testing.assert_allclose(crop.scale, [1.5 * width, 1.5 * height])


@pytest.mark.parametrize(("annotated", "halved"), [(8, False), (9, True)])
def test_half_bodies_take_more_than_eight_keypoints(annotated: int, halved: bool) -> None:
    crops = variations(replace(NOTHING, half_body=1), annotated, draws=20)

    assert all((r.center != BASE.center).any() == halved for r in crops)


def test_the_upper_half_is_taken_where_the_lower_has_too_few_keypoints() -> None:
    crops = variations(replace(NOTHING, half_body=1), annotated=13, draws=40)  # two hips only

    for crop in crops:
        np.testing.assert_allclose(crop.center, body(13)[:11, :2].mean(0))


def test_no_augmentation_is_the_crop_itself() -> None:
    (crop,) = variations(NOTHING, draws=1)

    assert (crop.center == BASE.center).all() and (crop.scale == BASE.scale).all()
    assert crop.rotation == 0 and not crop.mirrored

"""Regions, augmentation and warp against the paper's words written out slowly.

Picture files are tested with the samples, in test_dataset.py.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import Normalize

from hwl.data.transforms import (
    Augmentation,
    Region,
    augment,
    box_region,
    crop,
    joints_to_input,
    joints_to_picture,
    normalise,
)
from hwl.skeletons import COCO

PICTURE = (120, 90)  # width, height
SIZES = [(256, 192), (64, 64), (64, 96)]  # height, width
NOTHING = Augmentation(flip=0, half_body=0, scale=0, rotate=0, shift=0)
DRAWS = 4000

sizes = st.sampled_from(SIZES)
regions = st.builds(
    lambda x, y, width, size, rotation, mirrored: (
        Region(np.array([x, y]), np.array([width, width * size[0] / size[1]]), rotation, mirrored),
        size,
    ),
    *(st.floats(-50, 200), st.floats(-50, 200), st.floats(5, 500), sizes),
    *(st.floats(-80, 80), st.booleans()),
)


def region_step_by_step(
    box: tuple[float, float, float, float],
    input_size: tuple[int, int],
    shift: tuple[float, float] = (0, 0),
) -> tuple[list[float], list[float]]:
    """Centre and size by the paper's steps, for a box that is partly in the picture."""
    x, y, w, h = box
    x1, y1 = max(0, x), max(0, y)
    x2 = min(PICTURE[0] - 1, x1 + max(0, w - 1))
    y2 = min(PICTURE[1] - 1, y1 + max(0, h - 1))
    w, h = x2 - x1, y2 - y1
    centre = [(x1 + x2) / 2 + shift[0] * w, (y1 + y2) / 2 + shift[1] * h]
    aspect = input_size[1] / input_size[0]
    if w > aspect * h:
        h = w / aspect
    else:
        w = h * aspect
    return centre, [1.25 * w, 1.25 * h]


@given(
    x=st.floats(-30, PICTURE[0] - 3),
    y=st.floats(-30, PICTURE[1] - 3),
    width=st.floats(2, 200),
    height=st.floats(2, 200),
    shift=st.none() | st.tuples(st.floats(-0.2, 0.2), st.floats(-0.2, 0.2)),
    size=sizes,
)
def test_box_region_follows_the_papers_steps(
    x: float, y: float, width: float, height: float, shift: tuple | None, size: tuple[int, int]
) -> None:
    box = (x, y, width, height)
    moved = None if shift is None else np.array(shift)

    region = box_region(np.array(box), np.array(PICTURE), size, moved)

    centre, extent = region_step_by_step(box, size, shift or (0, 0))
    np.testing.assert_allclose(region.centre, centre, atol=1e-9)
    np.testing.assert_allclose(region.size, extent, atol=1e-9)
    assert region.rotation == 0 and not region.mirrored


@pytest.mark.parametrize("box", [(130, 10, 20, 30), (10, 95, 20, 30), (500, 500, 20, 30)])
def test_a_box_off_the_picture_is_kept_as_it_is(box: tuple[float, ...]) -> None:
    region = box_region(np.array(box, float), np.array(PICTURE), (64, 64))

    assert region.centre.tolist() == [box[0] + 10, box[1] + 15]
    assert region.size.tolist() == [37.5, 37.5]


@pytest.mark.parametrize(
    "box", [(50, 50, 0, 0), (50, 50, 1, 1), (119, 89, 20, 20), (50, 50, -5, -9)]
)
def test_a_box_without_extent_still_makes_a_region(box: tuple[float, ...]) -> None:
    region = box_region(np.array(box, float), np.array(PICTURE), (64, 64))

    assert (region.size > 0).all() and np.isfinite(region.matrix((64, 64))).all()


def test_the_upright_region_spans_the_whole_input() -> None:
    region = Region(np.array([50.0, 40.0]), np.array([30.0, 40.0]))

    corners = np.array([[35, 20, 1], [65, 60, 1]]) @ region.matrix((256, 192)).T

    np.testing.assert_allclose(corners, [[0, 0], [192, 256]], atol=1e-9)


def test_a_positive_rotation_turns_the_picture_counterclockwise() -> None:
    region = Region(np.array([50.0, 40.0]), np.array([64.0, 64.0]), rotation=90)

    right_of_centre = region.matrix((64, 64)) @ [60, 40, 1]

    np.testing.assert_allclose(right_of_centre, [32, 22], atol=1e-9)  # above the centre now


@given(drawn=regions)
def test_mirroring_flips_the_crop_about_its_own_centre(drawn: tuple) -> None:
    region, size = drawn
    point = np.array([3.0, 7.0, 1])

    plain = replace(region, mirrored=False).matrix(size) @ point
    mirrored = replace(region, mirrored=True).matrix(size) @ point

    np.testing.assert_allclose(mirrored, [size[1] - 1 - plain[0], plain[1]], atol=1e-6)


@given(drawn=regions, seed=st.integers(0, 1000))
def test_joints_of_upright_crops_come_back_to_their_places(drawn: tuple, seed: int) -> None:
    region, size = drawn
    region = replace(region, rotation=0, mirrored=False)
    joints = np.random.default_rng(seed).uniform(-50, 200, (17, 3))

    seen = joints_to_input(joints, region, size, COCO)
    back = joints_to_picture(seen[None, :, :2], region.centre[None], region.size[None], size)

    np.testing.assert_allclose(back[0], joints[:, :2], atol=1e-6)
    np.testing.assert_array_equal(seen[:, 2], joints[:, 2])


@given(drawn=regions, seed=st.integers(0, 1000))
def test_joints_of_turned_and_mirrored_crops_come_back_by_the_inverse_map(
    drawn: tuple, seed: int
) -> None:
    region, size = drawn
    joints = np.random.default_rng(seed).uniform(-50, 200, (17, 3))

    seen = joints_to_input(joints, region, size, COCO)
    if region.mirrored:
        seen = seen[COCO.flip]
    inverse = np.linalg.inv(np.vstack([region.matrix(size), [0, 0, 1]]))
    back = np.column_stack([seen[:, :2], np.ones(17)]) @ inverse.T

    np.testing.assert_allclose(back[:, :2], joints[:, :2], atol=1e-6)
    np.testing.assert_array_equal(seen[:, 2], joints[:, 2])


def test_a_flip_exchanges_left_and_right_joints_with_their_visibility() -> None:
    region = Region(np.array([32.0, 32.0]), np.array([64.0, 64.0]), mirrored=True)
    joints = np.zeros((17, 3))
    joints[COCO.index("left_wrist")] = 10, 20, 2

    seen = joints_to_input(joints, region, (64, 64), COCO)

    assert seen[COCO.index("right_wrist")].tolist() == [53, 20, 2]
    assert seen[COCO.index("left_wrist"), 2] == 0


def test_two_flips_are_none() -> None:
    region = Region(np.array([32.0, 32.0]), np.array([64.0, 64.0]), mirrored=True)
    joints = np.random.default_rng(0).uniform(0, 64, (17, 3))

    once = joints_to_input(joints, region, (64, 64), COCO)

    np.testing.assert_allclose(joints_to_input(once, region, (64, 64), COCO), joints)


def test_joints_to_input_leaves_its_argument_alone() -> None:
    joints = np.ones((17, 3))

    joints_to_input(joints, Region(np.zeros(2), np.ones(2), 30, True), (64, 64), COCO)

    assert (joints == 1).all()


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", [0, 33, -75])
@pytest.mark.parametrize("size", SIZES)
def test_a_marked_pixel_lies_in_the_crop_where_its_joint_does(
    size: tuple[int, int], rotation: float, mirrored: bool
) -> None:
    width = 40.0
    region = Region(
        np.array([61.0, 42.0]), np.array([width, width * size[0] / size[1]]), rotation, mirrored
    )
    picture = np.zeros((90, 120, 3), np.uint8)
    picture[47, 66, 1] = 255
    joint = np.tile([66.0, 47, 2], (17, 1))

    seen = crop(picture, region, size)

    assert seen.shape == (3, *size) and seen.dtype == np.uint8
    assert seen[0].max() == seen[2].max() == 0  # the mark is green
    y, x = np.indices(size)
    light = seen[1] / seen[1].sum()
    middle = (light * x).sum(), (light * y).sum()
    expected = joints_to_input(joint, region, size, COCO)[0, :2]
    np.testing.assert_allclose(middle, expected, atol=1)


def test_the_crop_is_black_outside_the_picture() -> None:
    region = Region(np.array([0.0, 0.0]), np.array([64.0, 64.0]))

    seen = crop(np.full((90, 120, 3), 255, np.uint8), region, (64, 64))

    assert (seen[:, 32:, 32:] == 255).all()
    assert seen[:, :31].max() == seen[:, :, :31].max() == 0


def body(labelled: int) -> np.ndarray:
    """Joints at random places, the first so many of them labelled."""
    joints = np.random.default_rng(5).uniform(0, 100, (17, 3))
    joints[:, 2] = np.where(np.arange(17) < labelled, 2, 0)
    return joints


BASE = Region(np.array([50.0, 50.0]), np.array([75.0, 100.0]))


def variations(how: Augmentation, labelled: int = 17, draws: int = DRAWS) -> list[Region]:
    rng = np.random.default_rng(0)
    return [augment(BASE, body(labelled), COCO, (256, 192), how, rng) for _ in range(draws)]


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
    factors = np.array([r.size / BASE.size for r in variations(Augmentation(half_body=0))])

    np.testing.assert_allclose(factors[:, 0], factors[:, 1])
    assert factors.min() == 0.5 and factors.max() == 1.5
    assert np.mean((factors[:, 0] > 0.5) & (factors[:, 0] < 1.5)) == pytest.approx(0.683, abs=0.03)
    assert factors.mean() == pytest.approx(1, abs=0.03)


def test_half_bodies_are_three_in_ten_and_of_these_69_in_100_upper() -> None:
    joints = body(17)[:, :2]
    regions = variations(replace(NOTHING, half_body=0.3))

    upper, lower, whole = (
        np.mean([np.allclose(r.centre, centre) for r in regions])
        for centre in (joints[:11].mean(0), joints[11:].mean(0), BASE.centre)
    )

    assert upper + lower == pytest.approx(0.3, abs=0.03) and upper + lower + whole == 1
    assert upper / (upper + lower) == pytest.approx(0.6915, abs=0.05)


def test_a_half_body_is_centred_on_its_joints_and_one_and_a_half_times_their_box() -> None:
    joints = body(17)[:11, :2]
    width, height = joints.max(0) - joints.min(0)
    width, height = max(width, height * 0.75), max(height, width / 0.75)

    regions = variations(replace(NOTHING, half_body=1), draws=20)

    upper = [region for region in regions if np.allclose(region.centre, joints.mean(0))]
    assert upper
    for region in upper:
        np.testing.assert_allclose(region.size, [1.5 * width, 1.5 * height])


@pytest.mark.parametrize(("labelled", "halved"), [(8, False), (9, True)])
def test_half_bodies_take_more_than_eight_joints(labelled: int, halved: bool) -> None:
    regions = variations(replace(NOTHING, half_body=1), labelled, draws=20)

    assert all((r.centre != BASE.centre).any() == halved for r in regions)


def test_the_upper_half_is_taken_where_the_lower_has_too_few_joints() -> None:
    regions = variations(replace(NOTHING, half_body=1), labelled=13, draws=40)  # two hips only

    for region in regions:
        np.testing.assert_allclose(region.centre, body(13)[:11, :2].mean(0))


def test_no_augmentation_is_the_region_itself() -> None:
    (region,) = variations(NOTHING, draws=1)

    assert (region.centre == BASE.centre).all() and (region.size == BASE.size).all()
    assert region.rotation == 0 and not region.mirrored


def test_normalise_equals_torchvisions() -> None:
    crops = torch.randint(0, 256, (2, 3, 8, 6), dtype=torch.uint8, generator=torch.manual_seed(0))
    reference = Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])

    found = normalise(crops)

    assert found.dtype == torch.float32
    torch.testing.assert_close(found, reference(crops / 255), atol=1e-6, rtol=1e-5)

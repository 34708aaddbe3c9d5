"""HeatmapCodec against slow loops written from the paper's description."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hwl.codec import HeatmapCodec
from hwl.errors import HwlError

SIZES = [(256, 192), (384, 288)]
CELL = 4  # input pixels


def encode_pixel_by_pixel(
    keypoint: tuple[float, float], height: int, width: int, sigma: float
) -> tuple[np.ndarray, float]:
    """Heatmap and weight of one keypoint: a Gaussian of peak 1 on a whole cell, cut at 3 sigma.

    The window is [first, end) in cells. It lies outside, as the original has it, where it begins
    behind the heatmap or ends before cell 0: one that ends *at* 0 holds no cell and counts.
    """
    center_x, center_y = (int(value / CELL + 0.5) for value in keypoint)  # toward zero
    heatmap = np.zeros((height, width))
    for center, size in ((center_x, width), (center_y, height)):
        first, end = center - 3 * sigma, center + 3 * sigma + 1
        if first >= size or end < 0:
            return heatmap, 0.0
    for y in range(height):
        for x in range(width):
            if abs(x - center_x) <= 3 * sigma and abs(y - center_y) <= 3 * sigma:
                square = (x - center_x) ** 2 + (y - center_y) ** 2
                heatmap[y, x] = math.exp(-square / (2 * sigma**2))
    return heatmap, 1.0


def decode_cell_by_cell(heatmap: np.ndarray) -> tuple[tuple[float, float], float]:
    """Keypoint in cells and score of one heatmap: (-1, -1) when nothing in it is positive."""
    height, width = heatmap.shape
    best_x, best_y = 0, 0
    for y in range(height):
        for x in range(width):
            if heatmap[y, x] > heatmap[best_y, best_x]:
                best_x, best_y = x, y
    score = heatmap[best_y, best_x]
    if score <= 0:
        return (-1, -1), score
    move_x = move_y = 0.0
    if 1 < best_x < width - 1 and 1 < best_y < height - 1:
        row, column = heatmap[best_y], heatmap[:, best_x]
        move_x = 0.25 * np.sign(row[best_x + 1] - row[best_x - 1])
        move_y = 0.25 * np.sign(column[best_y + 1] - column[best_y - 1])
    return (best_x + move_x, best_y + move_y), score


def around(side: int) -> st.SearchStrategy[float]:
    """A coordinate in an image of that side or well outside of it."""
    return st.floats(-60, side + 60, width=32)


def round_trip(codec: HeatmapCodec, keypoints: np.ndarray) -> np.ndarray:
    heatmaps, weights = codec.encode(keypoints, np.ones(len(keypoints)))
    assert (weights == 1).all()
    return codec.decode(heatmaps[None])[0][0]


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("sigma", [2, 3])
@settings(max_examples=12)
@given(data=st.data())
def test_encode_equals_the_pixel_by_pixel_loop(
    data: st.DataObject, height: int, width: int, sigma: int
) -> None:
    keypoints = np.array([data.draw(st.tuples(around(width), around(height))) for _ in range(3)])

    heatmaps, weights = HeatmapCodec((height, width), sigma).encode(keypoints, np.ones(3))

    assert heatmaps.shape == (3, height // 4, width // 4)
    assert heatmaps.dtype == weights.dtype == np.float32
    for keypoint, heatmap, weight in zip(keypoints, heatmaps, weights, strict=True):
        expected, expected_weight = encode_pixel_by_pixel(keypoint, height // 4, width // 4, sigma)
        np.testing.assert_allclose(heatmap, expected, atol=1e-6)
        assert weight == expected_weight


# With sigma 2 the patch reaches 6 cells from its center. On 48 columns a center of -7, to which
# everything from -7.5 to -8.5 cells is rounded, still has weight, though no cell is inside.
@pytest.mark.parametrize(
    ("keypoint", "weight", "visible"),
    [
        ((-6 * CELL, 100), 1, True),
        ((-7 * CELL, 100), 1, True),
        ((-7.5 * CELL, 100), 1, False),
        ((-8.4 * CELL, 100), 1, False),
        ((-8.5 * CELL, 100), 0, False),
        ((53.4 * CELL, 100), 1, True),
        ((53.5 * CELL, 100), 0, False),
        ((100, -7.4 * CELL), 1, True),
        ((100, -7.5 * CELL), 1, False),
        ((100, -8.5 * CELL), 0, False),
        ((100, 69.4 * CELL), 1, True),
        ((100, 69.5 * CELL), 0, False),
        ((math.nan, 100), 0, False),
    ],
)
def test_weight_is_zero_once_the_whole_patch_lies_outside(
    keypoint: tuple[float, float], weight: float, visible: bool
) -> None:
    heatmaps, weights = HeatmapCodec((256, 192)).encode(np.array([keypoint]), np.ones(1))

    assert weights[0] == weight
    assert (heatmaps[0] > 0).any() == visible


@pytest.mark.parametrize(
    ("x", "cell"),
    [(1.9, 0), (2, 1), (-1.9, 0), (-2, 0), (-5.9, 0), (-6, -1), (-9.9, -1), (-10, -2)],
)
def test_a_center_is_rounded_toward_zero_left_of_the_crop(x: float, cell: int) -> None:
    heatmaps, _ = HeatmapCodec((64, 64)).encode(np.array([[x, 32], [32, x]]), np.ones(2))

    profile = np.exp(-((np.arange(16) - cell) ** 2) / 8) * (abs(np.arange(16) - cell) <= 6)
    np.testing.assert_allclose(heatmaps[0, 8], profile, atol=1e-6)
    np.testing.assert_allclose(heatmaps[1, :, 8], profile, atol=1e-6)


def test_encode_leaves_an_unannotated_keypoint_empty() -> None:
    heatmaps, weights = HeatmapCodec((64, 64)).encode(np.full((2, 2), 32.0), np.array([1, 0]))

    assert weights.tolist() == [1, 0]
    assert heatmaps[0].max() == 1 and heatmaps[1].max() == 0


def test_encode_leaves_its_arguments_alone() -> None:
    keypoints, weights = np.array([[-500.0, 0], [5, 5]]), np.ones(2)

    HeatmapCodec((64, 64)).encode(keypoints, weights)

    assert keypoints.tolist() == [[-500, 0], [5, 5]] and weights.tolist() == [1, 1]


# The last half cell before the right and lower border rounds to a cell outside, see below.
@pytest.mark.parametrize(("height", "width"), SIZES)
@settings(max_examples=50)
@given(data=st.data())
def test_round_trip_is_within_half_a_cell(data: st.DataObject, height: int, width: int) -> None:
    x = st.floats(0, width - 2, exclude_max=True, width=32)
    y = st.floats(0, height - 2, exclude_max=True, width=32)
    keypoints = np.array([data.draw(st.tuples(x, y))])

    np.testing.assert_allclose(
        round_trip(HeatmapCodec((height, width)), keypoints), keypoints, atol=2
    )


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("border", ["left", "right", "top", "bottom"])
def test_round_trip_is_within_half_a_cell_along_the_border(
    border: str, height: int, width: int
) -> None:
    side, length = (width, height) if border in ("left", "right") else (height, width)
    distances = [0, 0.5, 1.9, 2, 3, 5, 8, 11]
    if border in ("right", "bottom"):
        distances = [side - 2.01 - distance for distance in distances]
    keypoints = np.array([(d, t) for d in distances for t in np.arange(0, length - 2, 3.7)])
    if border in ("top", "bottom"):
        keypoints = keypoints[:, ::-1]

    np.testing.assert_allclose(
        round_trip(HeatmapCodec((height, width)), keypoints), keypoints, atol=2
    )


def test_the_last_half_cell_decodes_to_the_last_cell() -> None:
    # Its center rounds to a cell past the heatmap (x = 191 to 48 of 48): the codec's known limit.
    keypoints = np.array([[190.0, 100], [191.9, 100], [100, 254], [100, 255.9]])

    decoded = round_trip(HeatmapCodec((256, 192)), keypoints)

    assert decoded.tolist() == [[188, 100], [188, 100], [100, 252], [100, 252]]


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 32)])
@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), levels=st.sampled_from([1, 2, 5, 1000]))
def test_decode_equals_the_cell_by_cell_loop(
    seed: int, levels: int, height: int, width: int
) -> None:
    # Few levels make ties, and maps that hold no positive value; small maps make border maxima.
    shape = (2, 3, height // 4, width // 4)
    heatmaps = np.random.default_rng(seed).integers(-levels, levels + 1, shape).astype(np.float32)
    heatmaps[0, 0] -= levels

    keypoints, scores = HeatmapCodec((height, width)).decode(heatmaps)

    for person in range(2):
        for keypoint in range(3):
            cell, score = decode_cell_by_cell(heatmaps[person, keypoint])
            assert keypoints[person, keypoint].tolist() == [CELL * cell[0], CELL * cell[1]]
            assert scores[person, keypoint] == score


@pytest.mark.parametrize("x", [0, 1, 2, 5, 6, 7])
@pytest.mark.parametrize("y", [0, 1, 2, 5, 6, 7])
def test_the_quarter_cell_move_keeps_off_the_border(x: int, y: int) -> None:
    # Rising to the right and downwards about the peak: a move would be +0.25 in both.
    heatmap = np.add.outer(np.arange(8), np.arange(8)).astype(np.float32) / 100
    heatmap[y, x] = 1

    keypoints, _ = HeatmapCodec((32, 32)).decode(heatmap[None, None])

    moved = 0.25 if 1 < x < 7 and 1 < y < 7 else 0
    assert keypoints[0, 0].tolist() == [CELL * (x + moved), CELL * (y + moved)]


def test_decode_moves_a_quarter_cell_toward_each_higher_neighbor() -> None:
    heatmap = np.zeros((1, 1, 64, 48), np.float32)
    heatmap[0, 0, 12, 9:12] = 0.2, 0.9, 0.4
    heatmap[0, 0, 11:14, 10] = 0.5, 0.9, 0.1

    keypoints, scores = HeatmapCodec((256, 192)).decode(heatmap)

    assert keypoints.tolist() == [[[41, 47]]]  # 4 * (10 + 0.25), 4 * (12 - 0.25)
    assert scores[0, 0] == np.float32(0.9)


def test_decode_of_a_flat_heatmap_takes_its_first_cell_unmoved() -> None:
    keypoints, scores = HeatmapCodec((64, 64)).decode(np.ones((1, 1, 16, 16), np.float32))

    assert keypoints.tolist() == [[[0, 0]]] and scores.tolist() == [[1]]


def test_decode_does_not_move_between_equal_neighbors() -> None:
    heatmap = np.zeros((1, 1, 16, 16), np.float32)
    heatmap[0, 0, 8, 5:8] = 0.5, 1, 0.5

    keypoints, _ = HeatmapCodec((64, 64)).decode(heatmap)

    assert keypoints.tolist() == [[[24, 32]]]


@pytest.mark.parametrize("level", [0, -1])
def test_decode_finds_no_keypoint_where_nothing_is_positive(level: float) -> None:
    keypoints, scores = HeatmapCodec((64, 64)).decode(np.full((1, 1, 16, 16), level, np.float32))

    assert keypoints.tolist() == [[[-CELL, -CELL]]] and scores.tolist() == [[level]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_decode_takes_torch_as_it_takes_numpy(dtype: torch.dtype) -> None:
    heatmaps = torch.randn(2, 3, 16, 8, generator=torch.manual_seed(0)).to(dtype)
    codec = HeatmapCodec((64, 32))

    keypoints, scores = codec.decode(heatmaps)
    expected_keypoints, expected_scores = codec.decode(heatmaps.float().numpy())

    assert keypoints.dtype == scores.dtype == np.float32
    np.testing.assert_array_equal(keypoints, expected_keypoints)
    np.testing.assert_array_equal(scores, expected_scores)


@example(size=(0, 32))
@example(size=(-32, 32))
@given(size=st.tuples(st.integers(-64, 400), st.integers(-64, 400)))
def test_only_positive_multiples_of_32_are_input_sizes(size: tuple[int, int]) -> None:
    if all(side > 0 and side % 32 == 0 for side in size):
        assert HeatmapCodec(size).heatmap_size == (size[0] // 4, size[1] // 4)
    else:
        with pytest.raises(HwlError, match="must divide by 32"):
            HeatmapCodec(size)


def test_an_input_size_of_three_numbers_is_refused() -> None:
    with pytest.raises(HwlError, match=r"\(256, 192, 32\)"):
        HeatmapCodec((256, 192, 32))  # type: ignore[arg-type]


@pytest.mark.parametrize("sigma", [0, -1.0, math.nan, math.inf])
def test_a_sigma_that_is_not_positive_and_finite_is_refused(sigma: float) -> None:
    with pytest.raises(HwlError, match="sigma"):
        HeatmapCodec((256, 192), sigma)

"""From boxes to joints and back, with networks whose answer is known."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hwl import prediction
from hwl.codec import HeatmapCodec
from hwl.data.annotations import Annotations, Boxes, load_annotations
from hwl.data.transforms import IMAGENET_MEAN, IMAGENET_STD, box_region, normalise, read_picture
from hwl.prediction import predict, predict_heatmaps, predict_picture
from hwl.skeletons import COCO, skeleton_from_category

FACE = ("nose", "left_eye", "right_eye")
SKELETON = skeleton_from_category("face", FACE, [])
CODEC = HeatmapCodec((64, 96))
PICTURE = (400, 300)  # width, height


class FaceNetwork:
    """Finds a red nose and two blue eyes in a black crop and draws perfect targets there.

    A face looks at us, so its left eye is the one further right, in a mirrored crop too: like a
    trained network it cannot know that a crop is mirrored.
    """

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, pictures: Tensor) -> Tensor:
        self.batches.append(len(pictures))
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        light = (pictures * std + mean).numpy()
        return torch.from_numpy(np.stack([self._heatmaps(crop) for crop in light]))

    def _heatmaps(self, light: np.ndarray) -> np.ndarray:
        y, x = np.indices(light.shape[1:])
        places = [self._middle(light[0], x, y)]
        # The line through the middle of both eyes parts them.
        part = (light[2] * x).sum() / light[2].sum()
        places += [self._middle(light[2] * side, x, y) for side in (x > part, x <= part)]
        return CODEC.encode(np.array(places), np.ones(3))[0]

    @staticmethod
    def _middle(light: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
        light = np.where(light > 0.1, light, 0)  # rounding leaves a little light everywhere
        return (light * x).sum() / light.sum(), (light * y).sum() / light.sum()


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> tuple[Annotations, Boxes, np.ndarray]:
    """Seven faces in three pictures of which one has none, their boxes shuffled, their joints."""
    folder = tmp_path_factory.mktemp("faces")
    places = {
        "a": [(60, 60)],
        "b": [],
        "c": [(70, 50), (300, 60), (70, 200)],
        "d": [(90, 220), (200, 70), (330, 230)],
    }
    rng = np.random.default_rng(0)
    boxes, joints, indices = [], [], []
    for index, (name, centres) in enumerate(places.items()):
        picture = np.zeros((PICTURE[1], PICTURE[0], 3), np.uint8)
        for centre in centres:
            size = rng.uniform(40, 70, 2)
            face = np.array([(0, 0.2), (0.25, -0.2), (-0.25, -0.25)]) * size
            face = np.round(centre + face + rng.uniform(-3, 3, (3, 2)))
            for (x, y), colour in zip(
                face.astype(int), [(0, 0, 255), (255, 0, 0), (255, 0, 0)], strict=True
            ):
                cv2.circle(picture, (int(x), int(y)), 2, colour, -1)
            boxes.append([*(centre - size / 2), *size])
            joints.append(face)
            indices.append(index)
        cv2.imwrite(str(folder / f"{name}.png"), picture)
    images = [
        {"id": 10 - i, "file_name": f"{n}.png", "width": PICTURE[0], "height": PICTURE[1]}
        for i, n in enumerate(places)
    ]
    (folder / "faces.json").write_text(
        json.dumps({"images": images, "categories": [SKELETON.category()]})
    )
    annotations = load_annotations(folder / "faces.json", folder)
    order = rng.permutation(len(boxes))
    scores = rng.random(len(boxes))
    found = Boxes(np.array(indices)[order], np.array(boxes)[order], scores, "made")
    return annotations, found, np.array(joints)[order]


Faces = tuple[Annotations, Boxes, np.ndarray]


def half_a_cell(boxes: np.ndarray) -> np.ndarray:
    """(B, 1) half a heatmap cell in picture pixels, and the little that finding a disc adds."""
    regions = [box_region(box, np.array(PICTURE), CODEC.input_size) for box in boxes]
    return np.array([[2.3 * region.size[0] / 96] for region in regions])


@pytest.mark.parametrize("flip", [False, True])
def test_known_joints_come_back_within_half_a_cell_in_the_order_of_the_boxes(
    faces: Faces, flip: bool
) -> None:
    annotations, boxes, joints = faces

    found = predict(FaceNetwork(), annotations, boxes, CODEC, flip)

    assert (np.abs(found.joints - joints).max(axis=2) <= half_a_cell(boxes.boxes)).all()
    assert found.joint_scores.min() > 0.7
    np.testing.assert_array_equal(found.picture_index, boxes.picture_index)
    np.testing.assert_array_equal(found.box_scores, boxes.scores)


def test_areas_are_those_of_the_padded_boxes(faces: Faces) -> None:
    annotations, boxes, _ = faces

    found = predict(FaceNetwork(), annotations, boxes, CODEC)

    regions = [box_region(box, np.array(PICTURE), CODEC.input_size) for box in boxes.boxes]
    np.testing.assert_allclose(found.areas, [r.size[0] * r.size[1] for r in regions])


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (2, 0), (3, 2), (7, 0), (64, 1)])
def test_predictions_do_not_depend_on_batches_and_workers(
    faces: Faces, batch_size: int, workers: int
) -> None:
    annotations, boxes, _ = faces
    expected = predict(FaceNetwork(), annotations, boxes, CODEC)
    network = FaceNetwork()

    found = predict(network, annotations, boxes, CODEC, True, batch_size, workers)

    np.testing.assert_array_equal(found.joints, expected.joints)
    np.testing.assert_array_equal(found.joint_scores, expected.joint_scores)
    full, rest = divmod(7, batch_size)
    batches = [batch_size] * full + [rest] * (rest > 0)
    assert network.batches == [size for size in batches for _ in "ab"]  # plain and mirrored


def test_a_picture_is_read_once_for_all_its_boxes(
    faces: Faces, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotations, boxes, _ = faces
    read: list[str] = []

    def recorded(path: Path) -> np.ndarray:
        read.append(path.name)
        return read_picture(path)

    monkeypatch.setattr(prediction, "read_picture", recorded)

    predict(FaceNetwork(), annotations, boxes, CODEC, batch_size=2)

    assert read == ["a.png", "c.png", "d.png"]


@pytest.mark.parametrize("as_file", [False, True])
def test_boxes_of_one_picture_are_predicted_like_those_of_a_data_set(
    faces: Faces, as_file: bool
) -> None:
    annotations, boxes, _ = faces
    here = np.flatnonzero(boxes.picture_index == 3)
    expected = predict(FaceNetwork(), annotations, boxes, CODEC)
    path = annotations.picture_path(3)

    found, scores = predict_picture(
        *(FaceNetwork(), path if as_file else read_picture(path)),
        *(boxes.boxes[here], SKELETON, CODEC),
    )

    np.testing.assert_array_equal(found, expected.joints[here])
    np.testing.assert_array_equal(scores, expected.joint_scores[here])


def test_without_boxes_the_whole_picture_is_one_person(faces: Faces) -> None:
    annotations, _, joints = faces
    whole = cv2.resize(read_picture(annotations.picture_path(0))[20:100, 10:120], None, fx=3, fy=3)
    expected = 3 * (joints[faces[1].picture_index == 0] - (10, 20)) + 1

    found, scores = predict_picture(FaceNetwork(), whole, None, SKELETON, CODEC)

    assert found.shape == (1, 3, 2) and scores.shape == (1, 3)
    np.testing.assert_allclose(found, expected, atol=2.5 * 360 * 1.25 / 96)


def flip_test_by_loop(plain: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
    """Mean with the mirrored heatmaps: flipped back, sides exchanged, one column to the right."""
    _, _, height, width = plain.shape
    result = np.zeros_like(plain)
    for n in range(len(plain)):
        for k, name in enumerate(COCO.joints):
            sides = {"left": "right", "right": "left"}
            side, _, rest = name.partition("_")
            partner = COCO.index(f"{sides[side]}_{rest}" if side in sides else name)
            for y in range(height):
                for x in range(width):
                    source = max(x - 1, 0)  # the first column has no left neighbour and stays
                    back = mirrored[n, partner, y, width - 1 - source]
                    result[n, k, y, x] = (plain[n, k, y, x] + back) / 2
    return result


@settings(max_examples=8)
@given(seed=st.integers(0, 1000), count=st.integers(1, 3))
def test_the_flip_test_equals_the_cell_by_cell_loop(seed: int, count: int) -> None:
    torch.manual_seed(seed)
    network = torch.nn.Conv2d(3, 17, 4, stride=4).requires_grad_(False)
    crops = torch.randint(0, 256, (count, 3, 32, 64), dtype=torch.uint8)
    plain, mirrored = network(normalise(crops)), network(normalise(crops.flip(3)))

    found = predict_heatmaps(network, crops, COCO, flip=True)

    expected = flip_test_by_loop(plain.numpy(), mirrored.numpy())
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_without_flip_test_the_network_runs_once_on_normalised_crops() -> None:
    seen: list[Tensor] = []

    def network(pictures: Tensor) -> Tensor:
        seen.append(pictures)
        return torch.full((len(pictures), 17, 8, 8), math.pi, dtype=torch.bfloat16)

    crops = torch.arange(2 * 3 * 32 * 32).view(2, 3, 32, 32).to(torch.uint8)

    found = predict_heatmaps(network, crops, COCO, flip=False)

    assert len(seen) == 1 and torch.equal(seen[0], normalise(crops))
    assert found.dtype == torch.float32 and found.shape == (2, 17, 8, 8)

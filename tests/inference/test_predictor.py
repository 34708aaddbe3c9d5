"""From boxes to keypoints and back, with models whose answer is known."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hwl.codec import HeatmapCodec
from hwl.data.annotations import Annotations, Boxes, load_annotations
from hwl.data.crops import box_crop
from hwl.data.images import read_image
from hwl.errors import HwlError
from hwl.inference import predictor as prediction
from hwl.inference.predictor import Model, Predictor
from hwl.models import Description, PoseNet
from hwl.models.description import IMAGENET_MEAN, IMAGENET_STD
from hwl.skeletons import COCO, skeleton_from_category

FACE = ("nose", "left_eye", "right_eye")
SKELETON = skeleton_from_category("face", FACE, [])
CODEC = HeatmapCodec((64, 96))
IMAGE = (400, 300)  # width, height


def predictor(run: Model, flip: bool = True, batch_size: int = 64) -> Predictor:
    """A Predictor of any function from crops to heatmaps."""
    model = PoseNet(torch.nn.Identity(), torch.nn.Identity(), {"name": "made"})
    model.describe(Description(skeleton=SKELETON, input_size=CODEC.input_size))
    return Predictor(model=model, prepared=run, codec=CODEC, flip=flip, batch_size=batch_size)


class FaceNetwork:
    """Finds a red nose and two blue eyes in a black crop and draws perfect targets there.

    A face looks at us, so its left eye is the one further right, in a mirrored crop too: like a
    trained model it cannot know that a crop is mirrored.
    """

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, images: Tensor) -> Tensor:
        self.batches.append(len(images))
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        light = (images * std + mean).numpy()
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
    """Seven faces in three images of which one has none, their boxes shuffled, their keypoints."""
    folder = tmp_path_factory.mktemp("faces")
    places = {
        "a": [(60, 60)],
        "b": [],
        "c": [(70, 50), (300, 60), (70, 200)],
        "d": [(90, 220), (200, 70), (330, 230)],
    }
    rng = np.random.default_rng(0)
    boxes, keypoints, indices = [], [], []
    for index, (name, centers) in enumerate(places.items()):
        image = np.zeros((IMAGE[1], IMAGE[0], 3), np.uint8)
        for center in centers:
            size = rng.uniform(40, 70, 2)
            face = np.array([(0, 0.2), (0.25, -0.2), (-0.25, -0.25)]) * size
            face = np.round(center + face + rng.uniform(-3, 3, (3, 2)))
            for (x, y), color in zip(
                face.astype(int), [(0, 0, 255), (255, 0, 0), (255, 0, 0)], strict=True
            ):
                cv2.circle(image, (int(x), int(y)), 2, color, -1)
            boxes.append([*(center - size / 2), *size])
            keypoints.append(face)
            indices.append(index)
        cv2.imwrite(str(folder / f"{name}.png"), image)
    images = [
        {"id": 10 - i, "file_name": f"{n}.png", "width": IMAGE[0], "height": IMAGE[1]}
        for i, n in enumerate(places)
    ]
    (folder / "faces.json").write_text(
        json.dumps({"images": images, "categories": [SKELETON.category()]})
    )
    annotations = load_annotations(folder / "faces.json", folder)
    order = rng.permutation(len(boxes))
    scores = rng.random(len(boxes))
    found = Boxes(np.array(indices)[order], np.array(boxes)[order], scores, "made")
    return annotations, found, np.array(keypoints)[order]


Faces = tuple[Annotations, Boxes, np.ndarray]


def half_a_cell(boxes: np.ndarray) -> np.ndarray:
    """(B, 1) half a heatmap cell in image pixels, and the little that finding a disc adds."""
    crops = [box_crop(box, CODEC.input_size) for box in boxes]
    return np.array([[2.3 * crop.scale[0] / 96] for crop in crops])


@pytest.mark.parametrize("flip", [False, True])
def test_known_keypoints_come_back_within_half_a_cell_in_the_order_of_the_boxes(
    faces: Faces, flip: bool
) -> None:
    annotations, boxes, keypoints = faces

    found = predictor(FaceNetwork(), flip).predict(annotations, boxes)

    assert (np.abs(found.keypoints - keypoints).max(axis=2) <= half_a_cell(boxes.boxes)).all()
    assert found.scores.min() > 0.7
    np.testing.assert_array_equal(found.image_index, boxes.image_index)
    np.testing.assert_array_equal(found.box_scores, boxes.scores)


def test_areas_are_those_of_the_padded_boxes(faces: Faces) -> None:
    annotations, boxes, _ = faces

    found = predictor(FaceNetwork()).predict(annotations, boxes)

    crops = [box_crop(box, CODEC.input_size) for box in boxes.boxes]
    np.testing.assert_allclose(found.areas, [r.scale[0] * r.scale[1] for r in crops])


@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (2, 0), (3, 2), (7, 0), (64, 1)])
def test_predictions_do_not_depend_on_batches_and_workers(
    faces: Faces, batch_size: int, workers: int
) -> None:
    annotations, boxes, _ = faces
    expected = predictor(FaceNetwork()).predict(annotations, boxes)
    model = FaceNetwork()

    found = predictor(model, True, batch_size).predict(annotations, boxes, workers)

    np.testing.assert_array_equal(found.keypoints, expected.keypoints)
    np.testing.assert_array_equal(found.scores, expected.scores)
    full, rest = divmod(7, batch_size)
    batches = [batch_size] * full + [rest] * (rest > 0)
    assert model.batches == [size for size in batches for _ in "ab"]  # plain and mirrored


def test_a_image_is_read_once_for_all_its_boxes(
    faces: Faces, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotations, boxes, _ = faces
    read: list[str] = []

    def recorded(path: Path) -> np.ndarray:
        read.append(path.name)
        return read_image(path)

    monkeypatch.setattr("hwl.data.annotations.read_image", recorded)

    predictor(FaceNetwork(), batch_size=2).predict(annotations, boxes)

    assert read == ["a.png", "c.png", "d.png"]


@pytest.mark.parametrize("as_kind", [str, Path, read_image, PIL.Image.open])
def test_boxes_of_one_image_are_predicted_like_those_of_a_data_set(
    faces: Faces, as_kind: Callable[[Path], Any]
) -> None:
    annotations, boxes, _ = faces
    here = np.flatnonzero(boxes.image_index == 3)
    expected = predictor(FaceNetwork()).predict(annotations, boxes)
    path = annotations.image_path(3)

    image = as_kind(path)

    found = predictor(FaceNetwork())(image, boxes.boxes[here].tolist())

    np.testing.assert_array_equal(found.keypoints, expected.keypoints[here])
    np.testing.assert_array_equal(found.scores, expected.scores[here])
    np.testing.assert_array_equal(found.image, read_image(path))


def test_without_boxes_the_whole_image_is_one_person(faces: Faces) -> None:
    annotations, _, keypoints = faces
    whole = cv2.resize(read_image(annotations.image_path(0))[20:100, 10:120], None, fx=3, fy=3)
    expected = 3 * (keypoints[faces[1].image_index == 0] - (10, 20)) + 1

    found = predictor(FaceNetwork())(whole)

    assert found.keypoints.shape == (1, 3, 2) and found.scores.shape == (1, 3)
    np.testing.assert_allclose(found.keypoints, expected, atol=2.5 * 360 * 1.25 / 96)


def flip_test_by_loop(plain: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
    """Mean with the mirrored heatmaps: flipped back, sides exchanged, one column to the right."""
    _, _, height, width = plain.shape
    result = np.zeros_like(plain)
    for n in range(len(plain)):
        for k, name in enumerate(COCO.keypoints):
            sides = {"left": "right", "right": "left"}
            side, _, rest = name.partition("_")
            partner = COCO.index(f"{sides[side]}_{rest}" if side in sides else name)
            for y in range(height):
                for x in range(width):
                    source = max(x - 1, 0)  # the first column has no left neighbor and stays
                    back = mirrored[n, partner, y, width - 1 - source]
                    result[n, k, y, x] = (plain[n, k, y, x] + back) / 2
    return result


@settings(max_examples=8)
@given(seed=st.integers(0, 1000), count=st.integers(1, 3))
def test_the_flip_test_equals_the_cell_by_cell_loop(seed: int, count: int) -> None:
    torch.manual_seed(seed)
    model = torch.nn.Conv2d(3, 17, 4, stride=4).requires_grad_(False)
    crops = torch.randint(0, 256, (count, 3, 32, 64), dtype=torch.uint8)
    through = predictor(model)
    through.model.describe(Description(skeleton=COCO))
    plain, mirrored = (model(through.model.preprocess(c)) for c in (crops, crops.flip(3)))

    found = through.heatmaps(crops)

    expected = flip_test_by_loop(plain.numpy(), mirrored.numpy())
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_without_flip_test_the_model_runs_once_on_normalized_crops() -> None:
    seen: list[Tensor] = []

    def model(images: Tensor) -> Tensor:
        seen.append(images)
        return torch.full((len(images), 3, 16, 24), math.pi, dtype=torch.bfloat16)

    crops = torch.arange(2 * 3 * 64 * 96).view(2, 3, 64, 96).to(torch.uint8)
    through = predictor(model, flip=False)

    found = through.heatmaps(crops)

    assert len(seen) == 1 and torch.equal(seen[0], through.model.preprocess(crops))
    assert found.dtype == torch.float32 and found.shape == (2, 3, 16, 24)


def test_a_list_of_images_gives_a_list_of_poses_each_with_its_image(faces: Faces) -> None:
    annotations, boxes, _ = faces
    through = predictor(FaceNetwork(), batch_size=2)
    images = [annotations.image_path(index) for index in (2, 0)]
    parts = [boxes.boxes[boxes.image_index == index] for index in (2, 0)]

    found = through(images, parts)

    for poses, image, part in zip(found, images, parts, strict=True):
        alone = through(image, part)
        np.testing.assert_array_equal(poses.keypoints, alone.keypoints)
        np.testing.assert_array_equal(poses.boxes, part)
        np.testing.assert_array_equal(poses.image, read_image(image))


def test_an_image_without_boxes_of_a_list_has_no_poses(faces: Faces) -> None:
    annotations, boxes, _ = faces
    images = [annotations.image_path(0), annotations.image_path(1)]

    one, none = predictor(FaceNetwork())(images, [boxes.boxes[boxes.image_index == 0], []])

    assert (len(one), len(none)) == (1, 0) and none.keypoints.shape == (0, 3, 2)
    np.testing.assert_array_equal(none.draw(), none.image)


def test_boxes_must_come_one_list_an_image(faces: Faces) -> None:
    images = [faces[0].image_path(0)] * 2

    with pytest.raises(HwlError, match="boxes_xywh must be a list of 2, boxes for each image"):
        predictor(FaceNetwork())(images, [[[1, 2, 3, 4]]])


def test_poses_draw_all_their_persons_on_their_image(faces: Faces) -> None:
    annotations, boxes, _ = faces
    path = annotations.image_path(3)

    found = predictor(FaceNetwork())(path, boxes.boxes[boxes.image_index == 3])

    drawn, before = found.draw(), read_image(path)
    for x, y in found.keypoints.reshape(-1, 2).round().astype(int):
        assert (drawn[y, x] != before[y, x]).any()
    np.testing.assert_array_equal(found.image, before)  # which stays as it is


def test_poses_of_a_data_set_are_drawn_on_an_image_that_is_given(faces: Faces) -> None:
    annotations, boxes, _ = faces
    found = predictor(FaceNetwork()).predict(annotations, boxes)

    with pytest.raises(HwlError, match="have no image to draw on"):
        found.draw()
    assert found.of_image(3).draw(read_image(annotations.image_path(3))).any()


def test_many_boxes_of_one_image_are_cropped_in_parts(
    faces: Faces, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotations, boxes, _ = faces
    expected = predictor(FaceNetwork()).predict(annotations, boxes)
    monkeypatch.setattr(prediction, "IMAGE_BOXES", 2)
    crops = prediction.ImageCrops(lambda index: np.zeros((9, 9, 3), np.uint8), boxes, (64, 96))

    found = predictor(FaceNetwork()).predict(annotations, boxes)

    np.testing.assert_array_equal(found.keypoints, expected.keypoints)
    assert max(len(crops[item][0]) for item in range(len(crops))) == 2


def test_workers_hand_over_crops_without_shared_memory(
    faces: Faces, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where /dev/shm is full, a worker would lose a tensor, and its reader wait for ever."""

    def find_no_room(storage: object) -> None:
        raise RuntimeError("unable to allocate shared memory(shm)")

    def stop(*_: object) -> None:
        raise TimeoutError("the workers handed nothing over")

    annotations, boxes, _ = faces
    expected = predictor(FaceNetwork()).predict(annotations, boxes)
    monkeypatch.setattr(torch.UntypedStorage, "_share_fd_cpu_", find_no_room)
    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)

    try:
        found = predictor(FaceNetwork()).predict(annotations, boxes, workers=2)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)

    np.testing.assert_array_equal(found.keypoints, expected.keypoints)

"""From image files to keypoints: timed, and the same as prediction."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from hwl.codec import HeatmapCodec
from hwl.data.annotations import Annotations, Boxes, load_split
from hwl.data.images import read_image
from hwl.inference.predictor import STAGES, Predictor
from hwl.models import Description, PoseNet
from hwl.skeletons import COCO
from hwl.speed import end_to_end
from hwl.speed.end_to_end import PASSES, crowded, predict_timed, time_end_to_end

CODEC = HeatmapCodec((64, 32))


class SlowNetwork:
    """Some heatmaps, after a while, and the sizes of the batches that it was given."""

    def __init__(self, seconds: float = 0.0) -> None:
        torch.manual_seed(0)
        self.layer = torch.nn.Conv2d(3, 17, 4, stride=4).requires_grad_(False)
        self.seconds = seconds
        self.batches: list[int] = []

    def __call__(self, images: Tensor) -> Tensor:
        self.batches.append(len(images))
        time.sleep(self.seconds)
        return self.layer(images)


def predictor(run: SlowNetwork, **how: object) -> Predictor:
    model = PoseNet(torch.nn.Identity(), torch.nn.Identity(), {"name": "ours"})
    model.describe(Description(skeleton=COCO, input_size=CODEC.input_size))
    return Predictor(**{"model": model, "prepared": run, "codec": CODEC, **how})


@pytest.fixture(scope="module")
def annotations(puppets: Path) -> Annotations:
    return load_split(puppets, "val2017")


@pytest.fixture(scope="module")
def boxes(annotations: Annotations) -> Boxes:
    return annotations.ground_truth_boxes()


def test_the_images_with_most_persons_are_taken_with_all_of_theirs(puppets: Path) -> None:
    annotations = load_split(puppets, "train2017")
    everyone = annotations.ground_truth_boxes()
    persons = {i: int((everyone.image_index == i).sum()) for i in set(everyone.image_index)}

    found = crowded(annotations, 3)

    counts = [int((found.image_index == i).sum()) for i in set(found.image_index)]
    assert sorted(counts) == sorted(persons.values())[-3:]
    assert len(found.boxes) == len(found.scores) == len(found.image_index) == sum(counts)
    assert len(crowded(annotations, 100)) == len(everyone)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_the_keypoints_are_those_of_prediction(
    annotations: Annotations, boxes: Boxes, flip: bool, batch_size: int
) -> None:
    through = predictor(SlowNetwork(), flip=flip, batch_size=batch_size)
    expected = through.predict(annotations, boxes)

    poses, _ = predict_timed(through, annotations, boxes)

    np.testing.assert_array_equal(poses.keypoints, expected.keypoints)


def test_the_stages_make_up_the_whole(annotations: Annotations, boxes: Boxes) -> None:
    started = time.perf_counter()
    _, seconds = predict_timed(predictor(SlowNetwork(0.02), batch_size=2), annotations, boxes)
    total = time.perf_counter() - started

    assert tuple(seconds) == STAGES
    assert sum(seconds.values()) == pytest.approx(total, rel=0.05, abs=0.01)


def test_each_stage_is_charged_what_it_took(
    annotations: Annotations, boxes: Boxes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that goes on where a stage says so and stands still else."""
    clock = [0]

    def slow_read(path: Path) -> np.ndarray:
        clock[0] += 1
        return read_image(path)

    class SlowNet(PoseNet):
        def preprocess(self, crops: Tensor) -> Tensor:
            clock[0] += 100
            return super().preprocess(crops)

    class SlowCodec(HeatmapCodec):
        def decode(self, heatmaps: Tensor) -> tuple[np.ndarray, np.ndarray]:
            clock[0] += 1_000_000
            return super().decode(heatmaps)

    def slow_model(images: Tensor) -> Tensor:
        clock[0] += 10_000
        return SlowNetwork()(images)

    monkeypatch.setattr(end_to_end.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr("hwl.data.annotations.read_image", slow_read)
    model = SlowNet(torch.nn.Identity(), torch.nn.Identity(), {"name": "ours"})
    model.describe(Description(skeleton=COCO))
    codec = SlowCodec(CODEC.input_size)
    through = predictor(slow_model, model=model, codec=codec, batch_size=2)
    passes, images = -(-len(boxes) // 2), len(set(boxes.image_index))

    _, seconds = predict_timed(through, annotations, boxes)

    assert seconds == {
        "reading": images,
        "cropping": 100 * passes,
        "model": 2 * 10_000 * passes,
        "decoding": 1_000_000 * passes,
    }


def test_a_table_has_models_with_and_without_flip_after_warming_up_on_their_batches(
    annotations: Annotations, boxes: Boxes
) -> None:
    second = SlowNetwork()
    predictors = [
        predictor(SlowNetwork(), batch_size=2),
        predictor(second, batch_size=64, runtime="openvino"),
    ]

    rows = time_end_to_end(predictors, annotations, boxes)

    ways = [(row["runtime"], row["flip"], row["batch"]) for row in rows]
    assert ways == [
        ("eager", False, 2),
        ("eager", True, 2),
        ("openvino", False, 64),
        ("openvino", True, 64),
    ]
    for row in rows:
        assert row["low_s"] <= row["total_s"] <= row["high_s"]
        assert row["total_s"] == pytest.approx(sum(row[f"{stage}_s"] for stage in STAGES))
        assert row["persons/s"] == pytest.approx(len(boxes) / row["total_s"])
        assert (row["persons"], row["images"]) == (len(boxes), len(set(boxes.image_index)))
        assert (row["device"], row["threads"]) == ("cpu", torch.get_num_threads())
    everyone = len(boxes)
    assert second.batches == [everyone] * (3 + 3 + PASSES * (1 + 2))

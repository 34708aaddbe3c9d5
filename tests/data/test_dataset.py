"""Training samples: crops with their targets, and the order of an epoch."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from hwl.codec import HeatmapCodec
from hwl.data import dataset
from hwl.data.annotations import Annotations, load_annotations
from hwl.data.batches import EpochBatches
from hwl.data.crops import (
    Augmentation,
    Crop,
    box_crop,
    keypoints_to_input,
    warp,
)
from hwl.data.dataset import PersonDataset, Sample
from hwl.data.loading import in_workers
from hwl.errors import HwlError
from hwl.skeletons import COCO

CODEC = HeatmapCodec((64, 64))
BOX = [20, 15, 110, 60]  # reaches over the right border of images that are 120 pixels wide
CLIPPED = [20, 15, 99, 59]
NOTHING = Augmentation(flip=0, half_body=0, scale=0, rotate=0, shift=0)


@pytest.fixture(scope="module")
def annotations(tmp_path_factory: pytest.TempPathFactory) -> Annotations:
    """Five persons of COCO's keypoints in three noisy images; the third is a crowd."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name in "abc":
        image = cv2.GaussianBlur(rng.integers(0, 256, (90, 120, 3), dtype=np.uint8), (0, 0), 1)
        cv2.imwrite(str(folder / f"{name}.png"), image)
    persons = []
    for number in range(1, 6):
        keypoints = np.column_stack([rng.uniform((20, 15), (80, 75), (17, 2)), np.full(17, 2)])
        keypoints[3:5, 2] = 0
        persons.append(
            {
                "id": number,
                "image_id": 1 + number % 3,
                "category_id": 1,
                "bbox": BOX,
                "area": 1800,
                "iscrowd": int(number == 3),
                "keypoints": keypoints.ravel().tolist(),
            }
        )
    images = [
        {"id": i, "file_name": f"{name}.png", "width": 120, "height": 90}
        for i, name in enumerate("abc", start=1)
    ]
    content = {"images": images, "categories": [COCO.category()], "annotations": persons}
    (folder / "keypoints.json").write_text(json.dumps(content))
    return load_annotations(folder / "keypoints.json", folder)


def samples(annotations: Annotations, how: Augmentation | None, seed: int = 0) -> PersonDataset:
    return PersonDataset(annotations, CODEC, how, seed)


def same(a: Sample, b: Sample) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_the_samples_are_the_annotated_persons(annotations: Annotations) -> None:
    found = samples(annotations, None)

    assert len(found) == 4 and annotations.ids[found.persons].tolist() == [1, 2, 4, 5]


def test_an_image_of_another_size_than_annotated_is_refused(annotations: Annotations) -> None:
    other = replace(annotations, image_sizes=annotations.image_sizes + np.array([0, 1]))

    with pytest.raises(HwlError, match=r"b\.png is 120x90 pixels, .*keypoints\.json says 120x91"):
        _ = samples(other, None)[0, 0]


def test_a_plain_sample_is_crop_target_and_weight_of_its_person(annotations: Annotations) -> None:
    person = 3
    image = annotations.read_image(annotations.image_index[person])
    crop = box_crop(np.array(CLIPPED), (64, 64))
    keypoints = keypoints_to_input(annotations.keypoints[person], crop, (64, 64), COCO)
    target, weight = CODEC.encode(keypoints[:, :2], np.ones(17))

    found = samples(annotations, None)[0, 2]  # the third annotated person is the fourth

    np.testing.assert_array_equal(found.crop, warp(image, crop, (64, 64)))
    annotated = annotations.keypoints[person, :, 2] > 0
    np.testing.assert_array_equal(found.target[annotated], target[annotated])
    np.testing.assert_array_equal(found.weight, weight * annotated)
    assert found.crop.dtype == torch.uint8
    assert found.target.dtype == found.weight.dtype == torch.float32


def test_unannotated_keypoints_have_no_weight_and_no_target(annotations: Annotations) -> None:
    found = samples(annotations, None)[0, 0]

    assert found.weight.tolist() == [1, 1, 1, 0, 0, *[1] * 12]
    assert (found.target[3:5] == 0).all() and (found.target[5:].amax((1, 2)) > 0.3).all()


def test_the_same_seed_epoch_and_index_give_the_same_sample(annotations: Annotations) -> None:
    one, other = samples(annotations, Augmentation()), samples(annotations, Augmentation())
    _ = other[4, 1], other[0, 3]  # what was asked for before does not matter

    assert all(same(one[epoch, i], other[epoch, i]) for epoch in range(3) for i in range(4))


def test_another_epoch_or_seed_gives_another_sample(annotations: Annotations) -> None:
    how = Augmentation()
    here = samples(annotations, how, seed=1)[2, 3]

    assert not same(here, samples(annotations, how, seed=1)[3, 3])
    assert not same(here, samples(annotations, how, seed=2)[2, 3])


def test_without_augmentation_epochs_are_alike(annotations: Annotations) -> None:
    found = samples(annotations, None)

    assert same(found[0, 1], found[7, 1])


def test_a_flipped_sample_is_the_mirror_image_with_sides_exchanged(
    annotations: Annotations,
) -> None:
    person = annotations.annotated()[1]
    crop = box_crop(np.array(CLIPPED), (64, 64))
    keypoints = keypoints_to_input(annotations.keypoints[person], crop, (64, 64), COCO)
    keypoints[:, 0] = 63 - keypoints[:, 0]
    target, weight = CODEC.encode(keypoints[COCO.flip, :2], keypoints[COCO.flip, 2] > 0)

    plain = samples(annotations, NOTHING)[0, 1]
    flipped = samples(annotations, replace(NOTHING, flip=1))[0, 1]

    # The warp rounds to 1/32 pixel, to the other side in the mirror.
    difference = flipped.crop.int() - plain.crop.flip(2).int()
    assert difference.abs().max() <= 4 and plain.crop.float().std() > 8
    np.testing.assert_array_equal(flipped.target, target)
    np.testing.assert_array_equal(flipped.weight, weight)


def test_three_in_ten_samples_are_shifted_by_up_to_a_fifth_of_the_box(
    annotations: Annotations, monkeypatch: pytest.MonkeyPatch
) -> None:
    shifts: list[np.ndarray | None] = []

    def recorded(box: np.ndarray, size: tuple[int, int], shift: np.ndarray | None = None) -> Crop:
        shifts.append(shift)
        return box_crop(box, size, shift)

    monkeypatch.setattr(dataset, "box_crop", recorded)
    monkeypatch.setattr(Annotations, "read_image", lambda *_: np.zeros((90, 120, 3), np.uint8))
    found = samples(annotations, Augmentation())

    for epoch in range(600):
        _ = found[epoch, 0]

    moved = np.array([shift for shift in shifts if shift is not None])
    assert len(moved) / len(shifts) == pytest.approx(0.3, abs=0.07)
    assert np.abs(moved).max() <= 0.2 and np.abs(moved).max(0).min() > 0.18
    np.testing.assert_allclose(moved.mean(0), 0, atol=0.04)


def epoch_of_batches(annotations: Annotations, workers: int) -> list[Sample]:
    found = samples(annotations, Augmentation(), seed=3)
    order = EpochBatches(len(found), 3, seed=3)
    order.epoch = 2
    return list(DataLoader(found, batch_sampler=order, **in_workers(workers)))


def test_samples_do_not_depend_on_the_number_of_workers(annotations: Annotations) -> None:
    here, elsewhere = (epoch_of_batches(annotations, workers) for workers in (0, 2))

    assert [len(batch.weight) for batch in here] == [3, 1]
    assert all(same(a, b) for a, b in zip(here, elsewhere, strict=True))

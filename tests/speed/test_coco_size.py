"""Files of COCO's size: their counts, and what it takes to read and share them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader, Dataset

from hwl.codec import HeatmapCodec
from hwl.data.annotations import Annotations, load_detections, load_split
from hwl.data.batches import EpochBatches
from hwl.data.check import check_split
from hwl.data.dataset import PersonDataset
from hwl.data.loading import in_workers
from hwl.speed.coco_scale import own_memory
from hwl.speed.coco_size import write_coco_size

MIB = 2**20


def test_a_fraction_has_cocos_shape_and_can_be_read(tmp_path: Path) -> None:
    detections = write_coco_size(tmp_path, factor=100)

    train, val = (load_split(tmp_path, split) for split in ("train2017", "val2017"))
    assert (len(train.image_ids), len(val.image_ids)) == (1_182, 50)
    assert (len(train.ids), len(val.ids)) == (2_624, 110)
    assert (len(train.annotated()), len(val.annotated())) == (1_498, 63)
    assert (train.crowd.sum(), val.crowd.sum()) == (49, 2)
    assert len(load_detections(detections, val)) == 1_041
    assert val.read_image(0).shape == (480, 640, 3)
    size = (tmp_path / "annotations/person_keypoints_train2017.json").stat().st_size
    assert size == pytest.approx(2_607_064, rel=0.05)


class OwnMemory(Dataset):
    """Gives a worker's private memory in MiB after it has made the sample."""

    def __init__(self, samples: PersonDataset) -> None:
        self.samples = samples

    def __getitem__(self, item: tuple[int, int]) -> float:
        _ = self.samples[item]
        return own_memory()


def of_cocos_size(folder: Path) -> Annotations:
    """COCO's training persons: a hundredth of them, made and read, so often in memory."""
    write_coco_size(folder, factor=100)
    part, times = load_split(folder, "train2017"), 100
    arrays = {
        name: np.concatenate([value] * times)
        for name, value in vars(part).items()
        if isinstance(value, np.ndarray)
    }
    images = len(part.image_ids)
    arrays["image_index"] += np.repeat(np.arange(times), len(part.ids)) * images
    # Each a text of its own, as those that are read from a file.
    names = tuple(name.encode().decode() for name in part.file_names * times)
    return replace(part, file_names=names, **arrays)


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="needs Linux")
def test_data_loading_processes_share_the_annotations_of_coco(tmp_path: Path) -> None:
    train = of_cocos_size(tmp_path)
    arrays = [value for value in vars(train).values() if isinstance(value, np.ndarray)]
    assert len(train.ids) == 262_400 and len(train.image_ids) == 118_200
    assert sum(array.nbytes for array in arrays) > 100 * MIB

    assert max(workers_memory(train)) < 80  # MiB; a copy of the arrays alone would be more


def workers_memory(train: Annotations) -> list[float]:
    samples = PersonDataset(train, HeatmapCodec((256, 192)), None, seed=0)
    batches = EpochBatches(len(samples), 4, seed=0)
    batches.start = batches.steps - 6
    loader = DataLoader(OwnMemory(samples), batch_sampler=batches, **in_workers(2))
    return [float(value) for batch in loader for value in batch]


def test_every_image_of_coco_is_checked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = of_cocos_size(tmp_path)
    read: list[int] = []
    examined: list[Path] = []
    monkeypatch.setattr("hwl.data.check.load_split", lambda *_: train)
    monkeypatch.setattr(Annotations, "read_image", lambda _, index: read.append(index))
    monkeypatch.setattr("hwl.data.check.orientation", lambda _: 1)  # it opens each file
    monkeypatch.setattr("hwl.data.check.damage", examined.append)

    told = check_split(tmp_path, "train2017")

    assert told.startswith("train2017: 118200 images, 262400 persons, ")
    assert sorted(read) == list(range(118_200)) and len(examined) == 118_200

"""Samples out of a crop cache: those of the exact path, on the CPU and in tensors."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, default_collate

from hwl.codec import HeatmapCodec
from hwl.data.annotations import Annotations, load_split
from hwl.data.batches import EpochBatches
from hwl.data.cached import CachedPersons, Cutouts, as_batch, samples_on, warp_cutouts
from hwl.data.crop_cache import CropCache, open_crop_cache
from hwl.data.crops import Augmentation
from hwl.data.dataset import PersonDataset, Sample
from hwl.data.loading import in_workers

SIZE = (128, 96)
CODEC = HeatmapCodec(SIZE)
CPU = torch.device("cpu")
MIB = 2**20


@pytest.fixture(scope="module")
def annotations(puppets: Path) -> Annotations:
    return load_split(puppets, "train2017")


@pytest.fixture(scope="module")
def cache(annotations: Annotations, tmp_path_factory: pytest.TempPathFactory) -> CropCache:
    return open_crop_cache(tmp_path_factory.mktemp("cache"), annotations, SIZE)


def persons(annotations: Annotations, how: Augmentation | None) -> PersonDataset:
    return PersonDataset(annotations, CODEC, how, seed=0)


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("how", [None, Augmentation(), Augmentation(half_body=1, rotate=1)])
def test_samples_are_those_of_the_exact_path_but_for_the_rounding_of_the_image(
    how: Augmentation | None, on_device: bool, annotations: Annotations, cache: CropCache
) -> None:
    exact = persons(annotations, how)
    pairs = [(epoch, index) for epoch in range(4) for index in range(len(exact))]

    batch = as_batch(CachedPersons(exact, cache, on_device).__getitems__(pairs))

    found, expected = samples_on(batch, CODEC, CPU), default_collate([exact[p] for p in pairs])
    assert torch.equal(found.target, expected.target)
    assert torch.equal(found.weight, expected.weight)
    assert found.crop.dtype == torch.uint8 and found.crop.shape == expected.crop.shape
    difference = (found.crop.int() - expected.crop.int()).abs()
    assert difference.max() <= 1 and difference.float().mean() < 0.001
    assert expected.crop.float().std() > 30
    assert found.crop.is_contiguous(memory_format=torch.channels_last)


def bilinear(image: np.ndarray, x: float, y: float) -> np.ndarray:
    """The image's (3,) value at a place, by the definition; beside the image it is black."""
    height, width, _ = image.shape
    value = np.zeros(3)
    for column in (math.floor(x), math.floor(x) + 1):
        for row in (math.floor(y), math.floor(y) + 1):
            if 0 <= column < width and 0 <= row < height:
                value += (1 - abs(x - column)) * (1 - abs(y - row)) * image[row, column]
    return value


def test_the_warp_of_tensors_is_bilinear_interpolation_with_black_around() -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, size, np.uint8) for size in ((7, 5, 3), (4, 9, 3), (1, 1, 3))]
    matrices = np.array(
        [
            [[0.3, 0.1, -1.0], [-0.1, 0.4, 0.5]],
            [[-0.5, 0.0, 8.0], [0.2, 0.1, -1.3]],
            [[0.1, 0.0, -0.9], [0.0, 0.1, -0.9]],
        ]
    )
    cutouts = Cutouts(
        pixels=torch.from_numpy(np.concatenate([image.ravel() for image in images])),
        starts=torch.tensor([0, 105, 213]),
        sizes=torch.tensor([[5, 7], [9, 4], [1, 1]]),
        matrices=torch.from_numpy(matrices).float(),
        cells=torch.zeros(3, 0, 2),
        weight=torch.zeros(3, 0),
    )

    found = warp_cutouts(cutouts, (20, 16))

    assert found.shape == (3, 3, 20, 16)
    for number, (image, matrix) in enumerate(zip(images, matrices, strict=True)):
        for row in range(20):
            for column in range(16):
                x, y = matrix @ [column, row, 1]
                expected = bilinear(image, x, y)
                assert np.abs(found[number, :, row, column].numpy() - expected).max() < 0.501


def epoch(source: CachedPersons, workers: int) -> list[Sample | Cutouts]:
    order = EpochBatches(len(source), 5, seed=0)
    return list(
        DataLoader(
            source,
            batch_sampler=order,
            collate_fn=as_batch,
            **in_workers(workers),
        )
    )


@pytest.mark.parametrize("on_device", [False, True])
def test_batches_do_not_depend_on_the_number_of_workers(
    on_device: bool, annotations: Annotations, cache: CropCache
) -> None:
    source = CachedPersons(persons(annotations, Augmentation()), cache, on_device)

    here, elsewhere = epoch(source, 0), epoch(source, 2)

    assert sum(len(batch.weight) for batch in here) == len(source)
    for a, b in zip(here, elsewhere, strict=True):
        assert type(a) is type(b) is (Cutouts if on_device else Sample)
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


class OwnMemory(CachedPersons):
    """Gives a worker's private memory in MiB after it has looked at all pixels."""

    def __getitems__(self, _: object) -> float:
        assert self.cache.pixels.sum() == 0  # a page of zeros each, from the file
        usage = Path("/proc/self/smaps_rollup").read_text()
        return sum(int(kb) for kb in re.findall(r"Private_Dirty:\s+(\d+) kB", usage)) / 1024


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="needs Linux")
def test_data_loading_processes_share_the_pixels(
    annotations: Annotations, cache: CropCache, tmp_path: Path
) -> None:
    large = tmp_path / "large.npy"
    with large.open("wb") as file:  # without blocks on the disk
        shape = {"descr": "|u1", "fortran_order": False, "shape": (200 * MIB,)}
        np.lib.format.write_array_header_1_0(file, shape)
        file.truncate(file.tell() + 200 * MIB)
    held = CropCache(large, cache.parts, cache.starts, np.load(large, mmap_mode="r"))
    source = OwnMemory(persons(annotations, None), held, on_device=False)
    order = EpochBatches(len(source), 8, seed=0)

    loader = DataLoader(source, batch_sampler=order, collate_fn=float, **in_workers(2))

    assert max(loader) < 60  # MiB; a copy of the pixels alone would be 200

"""Training samples: a person's augmented crop with its target heatmaps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from hwl.codec import HeatmapCodec
from hwl.data.annotations import Annotations
from hwl.data.transforms import (
    Augmentation,
    augment,
    box_region,
    crop,
    joints_to_input,
    read_picture,
)


class Sample(NamedTuple):
    """One training sample, or a batch of N of them.

    Attributes:
        crop: (3, H, W) uint8 RGB.
        target: (K, H/4, W/4) float32 heatmaps.
        weight: (K,) float32 target weights.
    """

    crop: Tensor
    target: Tensor
    weight: Tensor


class PersonDataset(Dataset):
    """The labelled persons of an annotation file as training samples.

    A sample is asked for by (epoch, index). Its randomness depends on the seed and that pair
    alone, so that samples do not depend on worker processes and a resumed run sees the same ones.

    Args:
        annotations: the persons.
        codec: makes the targets and knows the input size.
        augmentation: how samples vary, or None for plain crops.
        seed: of the augmentation.
    """

    def __init__(
        self,
        annotations: Annotations,
        codec: HeatmapCodec,
        augmentation: Augmentation | None,
        seed: int,
    ) -> None:
        self.annotations = annotations
        self.codec = codec
        self.augmentation = augmentation
        self.seed = seed
        self.persons = annotations.labelled()

    def __len__(self) -> int:
        return len(self.persons)

    def __getitem__(self, epoch_and_index: tuple[int, int]) -> Sample:
        epoch, index = epoch_and_index
        data, size = self.annotations, self.codec.input_size
        person = self.persons[index]
        picture_index = data.picture_index[person]
        joints = data.joints[person]
        box, picture_size = data.boxes[person], data.picture_sizes[picture_index]
        if self.augmentation is None:
            region = box_region(box, picture_size, size)
        else:
            how = self.augmentation
            rng = np.random.default_rng([self.seed, epoch, index])
            # The authors draw the shift once, when annotations are loaded; here anew each time.
            draw, shift = rng.random(), how.shift_range * (rng.random(2) - 0.5)
            region = box_region(box, picture_size, size, shift if draw < how.shift else None)
            region = augment(region, joints, data.skeleton, size, how, rng)
        picture = read_picture(data.picture_path(picture_index))
        joints = joints_to_input(joints, region, size, data.skeleton)
        target, weight = self.codec.encode(joints[:, :2], joints[:, 2] > 0)
        return Sample(
            torch.from_numpy(crop(picture, region, size)),
            torch.from_numpy(target),
            torch.from_numpy(weight),
        )


class EpochSampler(Sampler):
    """Yields (epoch, index) in an order that follows from seed and epoch alone.

    Set `epoch` before iterating; set `start` to go on in the middle of an epoch.
    """

    def __init__(self, length: int, seed: int) -> None:
        self.length = length
        self.seed = seed
        self.epoch = 0
        self.start = 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.length)
        return ((self.epoch, int(index)) for index in order[self.start :])

    def __len__(self) -> int:
        return self.length - self.start


def single_threaded_opencv(worker: int) -> None:
    """A data-loader worker's start: OpenCV's own threads would fight over the cores."""
    cv2.setNumThreads(0)

"""Training samples: a person's augmented crop with its target heatmaps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from hwl.codec import HeatmapCodec
from hwl.data.annotations import Annotations
from hwl.data.crops import (
    Augmentation,
    Crop,
    augment,
    box_crop,
    keypoints_to_input,
    warp,
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

    def to(self, device: torch.device) -> Sample:
        """The same on a device; from pinned memory the copy runs beside what follows."""
        return Sample._make(part.to(device, non_blocking=True) for part in self)

    def split(self, parts: int) -> list[Sample]:
        """A batch in so many parts, whose sizes differ by one at most."""
        pieces = [part.tensor_split(parts) for part in self]
        return [Sample._make(piece) for piece in zip(*pieces, strict=True)]


class PersonDataset(Dataset):
    """The annotated persons of an annotation file as training samples.

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
        self.persons = annotations.annotated()
        self.boxes = annotations.ground_truth_boxes().boxes

    def __len__(self) -> int:
        return len(self.persons)

    def crop(self, epoch: int, index: int) -> Crop:
        """The crop of a sample, in pixels of its image."""
        data, size = self.annotations, self.codec.input_size
        box = self.boxes[index]
        if self.augmentation is None:
            return box_crop(box, size)
        how = self.augmentation
        rng = np.random.default_rng([self.seed, epoch, index])
        # The authors draw the shift once, when annotations are loaded; here anew each time.
        draw, shift = rng.random(), how.shift_range * (rng.random(2) - 0.5)
        crop = box_crop(box, size, shift if draw < how.shift else None)
        return augment(crop, data.keypoints[self.persons[index]], data.skeleton, size, how, rng)

    def keypoints(self, index: int, crop: Crop) -> np.ndarray:
        """A sample's keypoints in its crop: (K, 3) x, y in input pixels and visibility."""
        data = self.annotations
        keypoints = data.keypoints[self.persons[index]]
        return keypoints_to_input(keypoints, crop, self.codec.input_size, data.skeleton)

    def __getitems__(self, epochs_and_indices: list[tuple[int, int]]) -> list[Sample]:
        """The samples of a batch."""
        return [self[pair] for pair in epochs_and_indices]

    def __getitem__(self, epoch_and_index: tuple[int, int]) -> Sample:
        epoch, index = epoch_and_index
        crop = self.crop(epoch, index)
        image = self.annotations.read_image(self.annotations.image_index[self.persons[index]])
        keypoints = self.keypoints(index, crop)
        target, weight = self.codec.encode(keypoints[:, :2], keypoints[:, 2] > 0)
        return Sample(
            torch.from_numpy(warp(image, crop, self.codec.input_size)),
            torch.from_numpy(target),
            torch.from_numpy(weight),
        )

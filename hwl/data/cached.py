"""Training samples from a crop cache: made a batch at a time, where the model runs.

The crops, and with them the targets, are those of `PersonDataset` to the bit, for its draws are
used. The images differ by the rounding of the interpolation: by a level of 255 in few pixels.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from hwl.codec import HeatmapCodec
from hwl.data.crop_cache import CHANNELS, CropCache, crop_within
from hwl.data.crops import Crop
from hwl.data.dataset import PersonDataset, Sample


class Cutouts(NamedTuple):
    """What a batch of N samples is made from on a device other than the CPU.

    Attributes:
        pixels: (B,) uint8 RGB of N rectangles, one after the other, row after row.
        starts: (N,) int64 position of each one's first byte.
        sizes: (N, 2) int64 width, height.
        matrices: (N, 2, 3) float32 affine maps from pixels of the input to pixels of the rectangle.
        cells: (N, K, 2) int64 of the keypoints, from `HeatmapCodec.cells`.
        weight: (N, K) float32 target weights.
    """

    pixels: Tensor
    starts: Tensor
    sizes: Tensor
    matrices: Tensor
    cells: Tensor
    weight: Tensor

    def samples(self, codec: HeatmapCodec, device: torch.device) -> Sample:
        """The batch, made on a device; from pinned memory the copy runs beside what follows."""
        here = Cutouts._make(part.to(device, non_blocking=True) for part in self)
        crops = warp_cutouts(here, codec.input_size)
        return Sample(crops, codec.gaussians(here.cells, here.weight), here.weight)


Batch: TypeAlias = Sample | Cutouts


def samples_on(batch: Batch, codec: HeatmapCodec, device: torch.device) -> Sample:
    """A batch of either kind as samples on the device that the model runs on."""
    return batch.samples(codec, device) if isinstance(batch, Cutouts) else batch.to(device)


class CachedPersons(Dataset):
    """The samples of a `PersonDataset` out of a crop cache, asked for by batches.

    Args:
        persons: which samples.
        cache: their pixels.
        on_device: give `Cutouts`, from which the device makes the samples, else `Sample`.
    """

    def __init__(self, persons: PersonDataset, cache: CropCache, on_device: bool) -> None:
        self.persons = persons
        self.cache = cache
        self.on_device = on_device

    def __len__(self) -> int:
        return len(self.persons)

    def __getitems__(self, epochs_and_indices: list[tuple[int, int]]) -> Batch:
        """A batch of N samples, for a DataLoader with `collate_fn=as_batch`."""
        codec, size = self.persons.codec, self.persons.codec.input_size
        crops = [self.persons.crop(*pair) for pair in epochs_and_indices]
        indices = [index for _, index in epochs_and_indices]
        places = [self.persons.keypoints(*each) for each in zip(indices, crops, strict=True)]
        keypoints = np.stack(places)
        cells, weight = codec.cells(keypoints[..., :2], keypoints[..., 2] > 0)
        seen = [self._seen(*each, size) for each in zip(indices, crops, strict=True)]
        if self.on_device:
            return _cutouts(seen, cells, weight)
        images = np.empty((len(seen), *size, CHANNELS), np.uint8)
        for image, (pixels, matrix) in zip(images, seen, strict=True):
            # OpenCV is twice as fast on four channels as on three, for the same numbers.
            four = cv2.cvtColor(pixels, cv2.COLOR_RGB2RGBA)
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            warped = cv2.warpAffine(four, matrix, size[::-1], flags=flags)
            cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB, dst=image)
        weights = torch.from_numpy(weight)
        return Sample(
            torch.from_numpy(images),
            codec.gaussians(torch.from_numpy(cells), weights),
            weights,
        )

    def _seen(self, index: int, crop: Crop, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """What a crop shows of a person's part, and the map to it from pixels of the input.

        Returns:
            (h, w, 3) uint8 and (2, 3) float64.
        """
        part = self.cache.parts[index]
        left, top, right, bottom = crop_within(crop, part).tolist()
        matrix = cv2.invertAffineTransform(crop.matrix(size))
        matrix[:, 2] -= np.add(part[:2], (left, top))
        return self.cache[index][top:bottom, left:right], matrix


def _cutouts(
    seen: list[tuple[np.ndarray, np.ndarray]], cells: np.ndarray, weight: np.ndarray
) -> Cutouts:
    ends = np.cumsum([pixels.size for pixels, _ in seen])
    starts = np.concatenate([[0], ends[:-1]])
    flat = np.empty(ends[-1], np.uint8)
    for start, end, (pixels, _) in zip(starts, ends, seen, strict=True):
        flat[start:end].reshape(pixels.shape)[:] = pixels
    sizes = np.array([pixels.shape[1::-1] for pixels, _ in seen], dtype=np.int64)
    matrices = np.stack([matrix for _, matrix in seen]).astype(np.float32)
    arrays = (flat, starts, sizes, matrices, cells, weight)
    return Cutouts._make(torch.from_numpy(array) for array in arrays)


def warp_cutouts(cutouts: Cutouts, input_size: tuple[int, int]) -> Tensor:
    """The crops of cutouts, bilinear, black outside: what `hwl.data.crops.warp` does, in tensors.

    Args:
        cutouts: N of them, on any device.
        input_size: (height, width) in pixels.

    Returns:
        (N, 3, height, width) uint8 RGB there, its channels last in memory.
    """
    height, width = input_size
    device = cutouts.pixels.device
    x = torch.arange(width, dtype=torch.float32, device=device)
    y = torch.arange(height, dtype=torch.float32, device=device)[:, None]
    (xx, xy, x0), (yx, yy, y0) = cutouts.matrices[..., None, None].permute(1, 2, 0, 3, 4)
    places = torch.stack([xx * x + xy * y + x0, yx * x + yy * y + y0], dim=-1)  # (N, H, W, 2)
    corner = places.floor()
    share = places - corner
    limits = cutouts.sizes[:, None, None]
    channels = torch.arange(CHANNELS, device=device)
    image = torch.zeros(*places.shape[:3], CHANNELS, device=device)
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        step = torch.tensor((dx, dy), device=device)
        cell = corner.long() + step
        inside = ((cell >= 0) & (cell < limits)).all(dim=-1)
        weight = torch.where(step > 0, share, 1 - share).prod(dim=-1) * inside
        cell = torch.minimum(cell.clamp(min=0), limits - 1)
        pixel = cutouts.starts[:, None, None] + CHANNELS * (
            cell[..., 1] * limits[..., 0] + cell[..., 0]
        )
        image += weight[..., None] * cutouts.pixels[pixel[..., None] + channels]
    return image.round().to(torch.uint8).permute(0, 3, 1, 2)


def as_batch(batch: Any) -> Any:
    """A batch of `CachedPersons`, whole already, in memory that a worker shares with its parent.

    It goes through torch's own `default_collate` as a list of one: what a worker hands over by
    itself waits for ever where /dev/shm is full.
    """
    whole = type(batch)._make(part[0] for part in default_collate([batch]))
    if isinstance(whole, Sample):  # until here with the channels last, as they are in memory
        return whole._replace(crop=whole.crop.permute(0, 3, 1, 2))
    return whole

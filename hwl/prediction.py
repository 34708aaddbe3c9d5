"""Boxes in, joints out: crop, flip test, decode, back to the picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hwl.codec import HeatmapCodec
from hwl.data.annotations import Annotations, Boxes
from hwl.data.dataset import single_threaded_opencv
from hwl.data.transforms import (
    box_region,
    crop,
    joints_to_picture,
    normalise,
    read_picture,
)
from hwl.metrics import Persons
from hwl.progress import progress
from hwl.skeletons import Skeleton

# (N, 3, H, W) normalised float32 crops -> (N, K, H/4, W/4) heatmaps, in any runtime.
Network = Callable[[Tensor], Tensor]


def predict_heatmaps(network: Network, crops: Tensor, skeleton: Skeleton, flip: bool) -> Tensor:
    """Heatmaps of N crops, averaged with those of the mirrored crops where `flip` is set.

    Args:
        network: the pose network.
        crops: (N, 3, H, W) uint8 RGB.
        skeleton: its flip pairs.
        flip: use the flip test.

    Returns:
        (N, K, H/4, W/4) float32.
    """
    pictures = normalise(crops)
    heatmaps = network(pictures).float()
    if not flip:
        return heatmaps
    return average_mirrored(heatmaps, network(pictures.flip(3)).float(), skeleton)


def average_mirrored(heatmaps: Tensor, mirrored: Tensor, skeleton: Skeleton) -> Tensor:
    """Mean of heatmaps and those of the mirrored crops, all (N, K, H/4, W/4).

    The mirrored heatmaps are turned back, their left and right joints exchanged and moved one
    column to the right, which aligns them (the flip test of SimpleBaseline).
    """
    mirrored = mirrored[:, skeleton.flip].flip(3)
    aligned = torch.cat([mirrored[..., :1], mirrored[..., :-1]], dim=3)
    return (heatmaps + aligned) / 2


class PictureCrops(Dataset):
    """One item a picture: the crops of all its boxes, so that a picture is decoded once."""

    def __init__(self, annotations: Annotations, boxes: Boxes, codec: HeatmapCodec) -> None:
        self.annotations = annotations
        self.boxes = boxes
        self.input_size = codec.input_size
        order = np.argsort(boxes.picture_index, kind="stable")
        starts = np.flatnonzero(np.diff(boxes.picture_index[order], prepend=-1))
        self.groups = np.split(order, starts[1:])

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, item: int) -> tuple[np.ndarray, Tensor, np.ndarray, np.ndarray]:
        """Box numbers (B,), crops (B, 3, H, W) uint8, region centres and sizes (B, 2)."""
        return self.crop(item, self.read(item))

    def read(self, item: int) -> np.ndarray:
        """The item's picture, (H, W, 3) uint8 RGB."""
        return read_picture(self.annotations.picture_path(self._picture_index(item)))

    def crop(
        self, item: int, picture: np.ndarray
    ) -> tuple[np.ndarray, Tensor, np.ndarray, np.ndarray]:
        """The item, given its picture."""
        group = self.groups[item]
        size = self.annotations.picture_sizes[self._picture_index(item)]
        return group, *_crop_boxes(picture, size, self.boxes.boxes[group], self.input_size)

    def _picture_index(self, item: int) -> int:
        return int(self.boxes.picture_index[self.groups[item][0]])


def _crop_boxes(
    picture: np.ndarray, picture_size: np.ndarray, boxes: np.ndarray, input_size: tuple[int, int]
) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Crops (B, 3, H, W) uint8 of a picture's boxes, region centres and sizes (B, 2)."""
    regions = [box_region(box, picture_size, input_size) for box in boxes]
    crops = np.stack([crop(picture, region, input_size) for region in regions])
    centres = np.stack([region.centre for region in regions])
    sizes = np.stack([region.size for region in regions])
    return torch.from_numpy(crops), centres, sizes


def predict(
    network: Network,
    annotations: Annotations,
    boxes: Boxes,
    codec: HeatmapCodec,
    flip: bool = True,
    batch_size: int = 64,
    workers: int = 0,
    device: torch.device | str = "cpu",
) -> Persons:
    """The joints of a person in every box.

    Args:
        network: the pose network, on `device`.
        annotations: the pictures (its persons are not looked at) and the joints.
        boxes: where to predict.
        codec: knows the input size and decodes.
        flip: use the flip test.
        batch_size: crops a forward pass.
        workers: processes that read and crop; 0 does it in this one.
        device: where the network is.

    Returns:
        One person a box, in the order of the boxes.
    """
    loader = DataLoader(
        PictureCrops(annotations, boxes, codec),
        batch_size=None,
        num_workers=workers,
        worker_init_fn=single_threaded_opencv,
    )
    joints = np.zeros((len(boxes), len(annotations.skeleton), 2))
    scores = np.zeros((len(boxes), len(annotations.skeleton)))
    areas = np.zeros(len(boxes))
    with torch.inference_mode():
        for numbers, crops, centres, sizes in batches(
            progress(loader, "predict", total=len(loader)), batch_size
        ):
            heatmaps = predict_heatmaps(network, crops.to(device), annotations.skeleton, flip)
            cells, peaks = codec.decode(heatmaps)
            joints[numbers] = joints_to_picture(cells, centres, sizes, codec.input_size)
            scores[numbers] = peaks
            areas[numbers] = sizes.prod(axis=1)
    return Persons(boxes.picture_index, joints, scores, boxes.scores, areas)


def batches(pictures: Iterator[tuple], batch_size: int) -> Iterator[tuple]:
    """Regroup per-picture crops into batches of `batch_size`, the last one shorter."""
    waiting: list[tuple] = []
    count = 0
    for picture in pictures:
        waiting.append(picture)
        count += len(picture[0])
        while count >= batch_size:
            numbers, crops, centres, sizes = _join(waiting)
            cut = slice(batch_size)
            yield numbers[cut], crops[cut], centres[cut], sizes[cut]
            rest = slice(batch_size, None)
            waiting = [(numbers[rest], crops[rest], centres[rest], sizes[rest])]
            count -= batch_size
    if count:
        yield _join(waiting)


def _join(parts: list[tuple]) -> tuple[np.ndarray, Tensor, np.ndarray, np.ndarray]:
    numbers, crops, centres, sizes = zip(*parts, strict=True)
    return np.concatenate(numbers), torch.cat(crops), np.concatenate(centres), np.concatenate(sizes)


def predict_picture(
    network: Network,
    picture: np.ndarray | Path,
    boxes: np.ndarray | None,
    skeleton: Skeleton,
    codec: HeatmapCodec,
    flip: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Joints in one picture outside any data set.

    Args:
        network: the pose network, on the CPU.
        picture: a file, or (H, W, 3) uint8 RGB.
        boxes: (B, 4) x, y, width, height in pixels, or None for the whole picture as one person.
        skeleton: the network's joints.
        codec: knows the input size and decodes.
        flip: use the flip test.

    Returns:
        joints (B, K, 2) in picture pixels and scores (B, K).
    """
    if isinstance(picture, Path):
        picture = read_picture(picture)
    size = np.array(picture.shape[1::-1])
    if boxes is None:
        boxes = np.array([[0, 0, *size]])
    crops, centres, sizes = _crop_boxes(picture, size, boxes, codec.input_size)
    with torch.inference_mode():
        cells, scores = codec.decode(predict_heatmaps(network, crops, skeleton, flip))
    return joints_to_picture(cells, centres, sizes, codec.input_size), scores

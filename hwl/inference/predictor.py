"""Boxes in, keypoints out: crop, flip test, decode, back to the image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hwl.codec import HeatmapCodec
from hwl.data.annotations import Annotations, Boxes
from hwl.data.crops import (
    box_crop,
    keypoints_to_image,
    normalize,
    warp,
)
from hwl.data.dataset import single_threaded_opencv
from hwl.data.images import read_image
from hwl.inference.poses import Poses
from hwl.progress import progress
from hwl.skeletons import Skeleton

# (N, 3, H, W) normalized float32 crops -> (N, K, H/4, W/4) heatmaps, in any runtime.
Model = Callable[[Tensor], Tensor]


def predict_heatmaps(model: Model, crops: Tensor, skeleton: Skeleton, flip: bool) -> Tensor:
    """Heatmaps of N crops, averaged with those of the mirrored crops where `flip` is set.

    Args:
        model: the pose model.
        crops: (N, 3, H, W) uint8 RGB.
        skeleton: its flip pairs.
        flip: use the flip test.

    Returns:
        (N, K, H/4, W/4) float32.
    """
    images = normalize(crops)
    heatmaps = model(images).float()
    if not flip:
        return heatmaps
    return average_mirrored(heatmaps, model(images.flip(3)).float(), skeleton)


def average_mirrored(heatmaps: Tensor, mirrored: Tensor, skeleton: Skeleton) -> Tensor:
    """Mean of heatmaps and those of the mirrored crops, all (N, K, H/4, W/4).

    The mirrored heatmaps are turned back, their left and right keypoints exchanged and moved one
    column to the right, which aligns them (the flip test of SimpleBaseline).
    """
    mirrored = mirrored[:, skeleton.flip].flip(3)
    aligned = torch.cat([mirrored[..., :1], mirrored[..., :-1]], dim=3)
    return (heatmaps + aligned) / 2


class ImageCrops(Dataset):
    """One item an image: the crops of all its boxes, so that an image is decoded once."""

    def __init__(self, annotations: Annotations, boxes: Boxes, codec: HeatmapCodec) -> None:
        self.annotations = annotations
        self.boxes = boxes
        self.input_size = codec.input_size
        order = np.argsort(boxes.image_index, kind="stable")
        starts = np.flatnonzero(np.diff(boxes.image_index[order], prepend=-1))
        self.groups = np.split(order, starts[1:]) if len(order) else []

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, item: int) -> tuple[np.ndarray, Tensor, np.ndarray, np.ndarray]:
        """Box numbers (B,), crops (B, 3, H, W) uint8, crop centers and scales (B, 2)."""
        return self.crop(item, self.read(item))

    def read(self, item: int) -> np.ndarray:
        """The item's image, (H, W, 3) uint8 RGB."""
        return self.annotations.read_image(self._image_index(item))

    def crop(
        self, item: int, image: np.ndarray
    ) -> tuple[np.ndarray, Tensor, np.ndarray, np.ndarray]:
        """The item, given its image."""
        group = self.groups[item]
        return group, *_crop_boxes(image, self.boxes.boxes[group], self.input_size)

    def _image_index(self, item: int) -> int:
        return int(self.boxes.image_index[self.groups[item][0]])


def _crop_boxes(
    image: np.ndarray, boxes: np.ndarray, input_size: tuple[int, int]
) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Crops (B, 3, H, W) uint8 of an image's boxes, crop centers and scales (B, 2)."""
    crops = [box_crop(box, input_size) for box in boxes]
    warped = np.stack([warp(image, crop, input_size) for crop in crops])
    centers = np.stack([crop.center for crop in crops])
    scales = np.stack([crop.scale for crop in crops])
    return torch.from_numpy(warped), centers, scales


def predict(
    model: Model,
    annotations: Annotations,
    boxes: Boxes,
    codec: HeatmapCodec,
    flip: bool = True,
    batch_size: int = 64,
    workers: int = 0,
    device: torch.device | str = "cpu",
) -> Poses:
    """The keypoints of a person in every box.

    Args:
        model: the pose model, on `device`.
        annotations: the images (its persons are not looked at) and the keypoints.
        boxes: where to predict.
        codec: knows the input size and decodes.
        flip: use the flip test.
        batch_size: crops a forward pass.
        workers: processes that read and crop; 0 does it in this one.
        device: where the model is.

    Returns:
        One person a box, in the order of the boxes.
    """
    loader = DataLoader(
        ImageCrops(annotations, boxes, codec),
        batch_size=None,
        num_workers=workers,
        worker_init_fn=single_threaded_opencv,
    )
    keypoints = np.zeros((len(boxes), len(annotations.skeleton), 2))
    scores = np.zeros((len(boxes), len(annotations.skeleton)))
    areas = np.zeros(len(boxes))
    with torch.inference_mode():
        for numbers, crops, centers, scales in batches(
            progress(loader, "predict", total=len(loader)), batch_size
        ):
            heatmaps = predict_heatmaps(model, crops.to(device), annotations.skeleton, flip)
            cells, peaks = codec.decode(heatmaps)
            keypoints[numbers] = keypoints_to_image(cells, centers, scales, codec.input_size)
            scores[numbers] = peaks
            areas[numbers] = scales.prod(axis=1)
    return Poses(boxes.image_index, keypoints, scores, boxes.scores, areas)


def batches(images: Iterator[tuple], batch_size: int) -> Iterator[tuple]:
    """Regroup per-image crops into batches of `batch_size`, the last one shorter."""
    waiting: list[tuple] = []
    count = 0
    for image in images:
        waiting.append(image)
        count += len(image[0])
        while count >= batch_size:
            numbers, crops, centers, scales = _join(waiting)
            cut = slice(batch_size)
            yield numbers[cut], crops[cut], centers[cut], scales[cut]
            rest = slice(batch_size, None)
            waiting = [(numbers[rest], crops[rest], centers[rest], scales[rest])]
            count -= batch_size
    if count:
        yield _join(waiting)


def _join(parts: list[tuple]) -> tuple[np.ndarray, Tensor, np.ndarray, np.ndarray]:
    numbers, crops, centers, scales = zip(*parts, strict=True)
    return (
        np.concatenate(numbers),
        torch.cat(crops),
        np.concatenate(centers),
        np.concatenate(scales),
    )


def predict_image(
    model: Model,
    image: np.ndarray | Path,
    boxes: np.ndarray | None,
    skeleton: Skeleton,
    codec: HeatmapCodec,
    flip: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints in one image outside any data set.

    Args:
        model: the pose model, on the CPU.
        image: a file, or (H, W, 3) uint8 RGB.
        boxes: (B, 4) x, y, width, height in pixels, or None for the whole image as one person.
        skeleton: the model's keypoints.
        codec: knows the input size and decodes.
        flip: use the flip test.

    Returns:
        keypoints (B, K, 2) in image pixels and scores (B, K).
    """
    if isinstance(image, Path):
        image = read_image(image)
    if boxes is None:
        boxes = np.array([[0, 0, *image.shape[1::-1]]])
    crops, centers, scales = _crop_boxes(image, boxes, codec.input_size)
    with torch.inference_mode():
        cells, scores = codec.decode(predict_heatmaps(model, crops, skeleton, flip))
    return keypoints_to_image(cells, centers, scales, codec.input_size), scores

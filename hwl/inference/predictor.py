"""The one way from boxes to poses: crop, normalize, model, flip test, decode, back to the image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hwl.codec import HeatmapCodec
from hwl.data.annotations import Annotations, Boxes
from hwl.data.crops import box_crop, keypoints_to_image, warp
from hwl.data.loading import delivered, in_workers
from hwl.errors import HwlError
from hwl.inference.images import as_image, checked_boxes
from hwl.inference.poses import Poses
from hwl.models import PoseNet
from hwl.progress import progress
from hwl.skeletons import Skeleton

# (N, 3, H, W) normalized float32 crops -> (N, K, H/4, W/4) heatmaps, in any runtime.
Model: TypeAlias = Callable[[Tensor], Tensor]
Image: TypeAlias = str | Path | np.ndarray | PIL.Image.Image
Images: TypeAlias = list[Any] | tuple[Any, ...]  # of Image; a str is a sequence too
# Box numbers (B,), crops (B, 3, H, W) uint8 RGB, crop centers and scales (B, 2). Arrays, for what
# a worker process hands over as a tensor waits for ever where /dev/shm is full.
Crops: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
Ended: TypeAlias = Callable[[str], None]

IMAGE_BOXES = 256  # boxes of one image that are cropped at a time, which bounds the memory


def _unobserved(stage: str) -> None:
    """Nobody takes the time of the stages."""


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """Images and boxes in, poses out: all that predicts goes through here.

    Attributes:
        model: describes itself, in evaluation mode, on the device to predict on.
        prepared: the model in a runtime (`hwl.inference.runtimes`), or the model itself.
        codec: knows the input size and decodes.
        flip: use the flip test.
        batch_size: crops a forward pass.
        runtime: the name of what `prepared` runs in.
    """

    model: PoseNet
    prepared: Model
    codec: HeatmapCodec
    flip: bool = True
    batch_size: int = 64
    runtime: str = "eager"

    @property
    def skeleton(self) -> Skeleton:
        """The keypoints that are predicted.

        Raises:
            HwlError: the model does not describe itself.
        """
        if self.model.description is None:
            raise HwlError("the model does not name its keypoints: describe it, or use hwl.load")
        return self.model.description.skeleton

    def check_keypoints(self, annotations: Annotations, weights: object) -> None:
        """HwlError unless the keypoints are those of the data, by name and in order."""
        if self.model.description is not None:
            skeleton, path = annotations.skeleton, annotations.path
            self.model.description.check_keypoints(skeleton, path, weights)

    @overload
    def __call__(self, image: Image, boxes_xywh: object = None) -> Poses: ...
    @overload
    def __call__(
        self, image: Images, boxes_xywh: Sequence[object] | None = None
    ) -> list[Poses]: ...
    def __call__(
        self, image: Image | Images, boxes_xywh: object | Sequence[object] = None
    ) -> Poses | list[Poses]:
        """The poses of the persons in an image, or in each image of a list.

        Files and PIL images are turned upright by their EXIF orientation.

        Args:
            image: a path, (H, W, 3) or (H, W) uint8 RGB or gray, a PIL image, or a list of these.
            boxes_xywh: (B, 4) x, y, width, height of the persons in pixels of the image; None takes
                the whole image for one person. For a list of images, a list of these.

        Returns:
            Poses with keypoints (B, K, 2) in pixels of the image; for a list, a list.

        Raises:
            HwlError: an image cannot be read, or boxes are no boxes in their image.
        """
        if isinstance(image, str | Path | np.ndarray | PIL.Image.Image):
            return self._predict_images([image], [boxes_xywh])[0]
        if boxes_xywh is None:
            boxes_xywh = [None] * len(image)
        if not isinstance(boxes_xywh, Sequence) or len(boxes_xywh) != len(image):
            raise HwlError(f"boxes_xywh must be a list of {len(image)}, boxes for each image")
        return self._predict_images(image, boxes_xywh)

    def _predict_images(self, images: Sequence[Image], boxes_xywh: Sequence[object]) -> list[Poses]:
        arrays = [as_image(image) for image in images]
        parts = [checked_boxes(b, a) for b, a in zip(boxes_xywh, arrays, strict=True)]
        boxes = Boxes(
            image_index=np.repeat(np.arange(len(parts)), [len(part) for part in parts]),
            boxes=np.concatenate([*parts, np.zeros((0, 4))]),
            scores=np.ones(sum(map(len, parts))),
            source="given",
        )
        crops = ImageCrops(arrays.__getitem__, boxes, self.codec.input_size)
        poses = self._poses(map(crops.__getitem__, range(len(crops))), boxes, _unobserved)
        return [poses.of_image(index, array) for index, array in enumerate(arrays)]

    def predict(
        self,
        annotations: Annotations,
        boxes: Boxes,
        workers: int = 0,
        ended: Ended = _unobserved,
    ) -> Poses:
        """The pose of the person in every box of a data set.

        Args:
            annotations: the images; its persons are not looked at.
            boxes: where to predict.
            workers: processes that read and crop; 0 does it in this one.
            ended: is told the name of each of STAGES when it ends, to take times; reading and
                cropping are seen without workers only.

        Returns:
            One person a box, in the order of the boxes.
        """
        loader = DataLoader(
            ImageCrops(annotations.read_image, boxes, self.codec.input_size, ended),
            batch_size=None,
            collate_fn=_unchanged,
            **in_workers(workers),
        )
        return self._poses(progress(delivered(loader), "predict", total=len(loader)), boxes, ended)

    def _poses(self, crops_of_images: Iterable[Crops], boxes: Boxes, ended: Ended) -> Poses:
        keypoints = np.zeros((len(boxes), len(self.skeleton), 2))
        scores = np.zeros((len(boxes), len(self.skeleton)))
        areas = np.zeros(len(boxes))
        with torch.inference_mode():
            for numbers, crops, centers, scales in batches(crops_of_images, self.batch_size):
                cells, peaks = self.codec.decode(self.heatmaps(torch.from_numpy(crops), ended))
                keypoints[numbers] = keypoints_to_image(
                    cells, centers, scales, self.codec.input_size
                )
                scores[numbers] = peaks
                areas[numbers] = scales.prod(axis=1)
                ended("decoding")
        return Poses(
            skeleton=self.skeleton,
            keypoints=keypoints,
            scores=scores,
            boxes=boxes.boxes,
            box_scores=boxes.scores,
            areas=areas,
            image_index=boxes.image_index,
        )

    def heatmaps(self, crops: Tensor, ended: Ended = _unobserved) -> Tensor:
        """Heatmaps of N crops, averaged with those of the mirrored crops in the flip test.

        Args:
            crops: (N, 3, H, W) uint8 RGB.
            ended: see `predict`.

        Returns:
            (N, K, H/4, W/4) float32.
        """
        plain = self.model.preprocess(crops.to(self.model.mean.device))
        mirrored = plain.flip(3) if self.flip else None
        ended("cropping")
        heatmaps = self.prepared(plain).float()
        if mirrored is None:
            ended("model")
            return heatmaps
        turned = self.prepared(mirrored).float()
        ended("model")
        return average_mirrored(heatmaps, turned, self.skeleton)


# What `Predictor.predict` tells of, in the order in which an image meets them.
STAGES = ("reading", "cropping", "model", "decoding")


def average_mirrored(heatmaps: Tensor, mirrored: Tensor, skeleton: Skeleton) -> Tensor:
    """Mean of heatmaps and those of the mirrored crops, all (N, K, H/4, W/4).

    The mirrored heatmaps are turned back, their left and right keypoints exchanged and moved one
    column to the right, which aligns them (the flip test of SimpleBaseline).
    """
    mirrored = mirrored[:, skeleton.flip].flip(3)
    aligned = torch.cat([mirrored[..., :1], mirrored[..., :-1]], dim=3)
    return (heatmaps + aligned) / 2


def _unchanged(crops: Any) -> Any:
    """In place of torch's own, which makes tensors of arrays."""
    return crops


class ImageCrops(Dataset):
    """One item an image: the crops of its boxes, so that an image is decoded once.

    An image with more than IMAGE_BOXES boxes makes several items.

    Args:
        read: image index -> (H, W, 3) uint8 RGB.
        boxes: of all images.
        input_size: (height, width) in pixels.
        ended: is told when "reading" and "cropping" end.
    """

    def __init__(
        self,
        read: Callable[[int], np.ndarray],
        boxes: Boxes,
        input_size: tuple[int, int],
        ended: Ended = _unobserved,
    ) -> None:
        self.read = read
        self.boxes = boxes
        self.input_size = input_size
        self.ended = ended
        order = np.argsort(boxes.image_index, kind="stable")
        starts = np.flatnonzero(np.diff(boxes.image_index[order], prepend=-1))
        groups = np.split(order, starts[1:]) if len(order) else []
        self.groups = [
            group[start : start + IMAGE_BOXES]
            for group in groups
            for start in range(0, len(group), IMAGE_BOXES)
        ]

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, item: int) -> Crops:
        group = self.groups[item]
        self.ended("cropping")  # of the image before
        image = self.read(int(self.boxes.image_index[group[0]]))
        self.ended("reading")
        crops = [box_crop(box, self.input_size) for box in self.boxes.boxes[group]]
        warped = np.stack([warp(image, crop, self.input_size) for crop in crops])
        centers = np.stack([crop.center for crop in crops])
        scales = np.stack([crop.scale for crop in crops])
        return group, warped, centers, scales


def batches(images: Iterable[Crops], batch_size: int) -> Iterator[Crops]:
    """Regroup per-image crops into batches of `batch_size`, the last one shorter."""
    waiting: list[Crops] = []
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


def _join(parts: list[Crops]) -> Crops:
    numbers, crops, centers, scales = zip(*parts, strict=True)
    return (
        np.concatenate(numbers),
        np.concatenate(crops),
        np.concatenate(centers),
        np.concatenate(scales),
    )

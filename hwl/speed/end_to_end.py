"""The end to end from image files to keypoints, timed stage by stage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from hwl.codec import HeatmapCodec
from hwl.data.annotations import Annotations, Boxes
from hwl.data.crops import keypoints_to_image, normalize
from hwl.inference.predictor import ImageCrops, Model, average_mirrored, batches
from hwl.progress import progress

# In the order in which an image meets them.
STAGES = ("reading", "cropping", "model", "decoding")
WARM_UPS = 3


def crowded(annotations: Annotations, images: int) -> Boxes:
    """Ground-truth boxes of the images with the most annotated persons, at most so many."""
    boxes = annotations.ground_truth_boxes()
    persons = np.bincount(boxes.image_index, minlength=len(annotations.image_ids))
    chosen = np.argsort(-persons, kind="stable")[:images]
    keep = np.isin(boxes.image_index, chosen)
    return replace(
        boxes,
        image_index=boxes.image_index[keep],
        boxes=boxes.boxes[keep],
        scores=boxes.scores[keep],
    )


class Clock:
    """Gives each stage the time since the last one ended, so that the stages make up the whole."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.last = time.perf_counter()

    def ended(self, stage: str) -> None:
        """All that was done since the last call was of this stage."""
        now = time.perf_counter()
        self.seconds[stage] += now - self.last
        self.last = now


def predict_timed(
    prepared: Model,
    annotations: Annotations,
    boxes: Boxes,
    codec: HeatmapCodec,
    flip: bool,
    batch_size: int,
    device: str,
) -> tuple[np.ndarray, dict[str, float]]:
    """What `hwl.inference.predictor.predict` does, in one process and with a clock.

    Reading is decoding the file; cropping includes putting batches together, normalizing, mirroring
    and the way to the device; decoding includes turning mirrored heatmaps back and the way back to
    the image.

    Args:
        prepared: the pose model, on `device`.
        annotations: the images and the keypoints.
        boxes: where to predict.
        codec: knows the input size and decodes.
        flip: use the flip test.
        batch_size: crops a forward pass.
        device: where the model is, "cpu" or "cuda".

    Returns:
        Keypoints (B, K, 2) in image pixels and seconds by stage.
    """
    images = ImageCrops(annotations, boxes, codec)
    keypoints = np.zeros((len(boxes), len(annotations.skeleton), 2))
    clock = Clock()

    def crops_of_images() -> Iterator[tuple]:
        for item in range(len(images)):
            clock.ended("cropping")  # of the image before
            image = images.read(item)
            clock.ended("reading")
            yield images.crop(item, image)

    with torch.inference_mode():
        for numbers, crops, centers, scales in batches(crops_of_images(), batch_size):
            plain = normalize(crops.to(device))
            inputs = [plain, plain.flip(3)] if flip else [plain]
            clock.ended("cropping")
            heatmaps = [prepared(images).float() for images in inputs]
            if device == "cuda":
                torch.cuda.synchronize()
            clock.ended("model")
            if flip:
                heatmaps = [average_mirrored(*heatmaps, annotations.skeleton)]
            cells, _ = codec.decode(heatmaps[0])
            keypoints[numbers] = keypoints_to_image(cells, centers, scales, codec.input_size)
            clock.ended("decoding")
    return keypoints, clock.seconds


def time_end_to_end(
    prepared_models: dict[tuple[str, str], Model],
    batch_sizes: dict[tuple[str, str], int],
    annotations: Annotations,
    boxes: Boxes,
    codec: HeatmapCodec,
    device: str,
) -> list[dict[str, object]]:
    """Seconds by stage of models, each with and without the flip test.

    Args:
        prepared_models: by model and runtime, on `device`.
        batch_sizes: crops a forward pass, by model and runtime.
        annotations: the images.
        boxes: the persons.
        codec: knows the input size.
        device: "cpu" or "cuda".

    Returns:
        A row a model and `flip`.
    """
    for image_index in np.unique(boxes.image_index):  # the first model must not pay the disk
        annotations.image_path(image_index).read_bytes()
    ways = [(key, flip) for key in prepared_models for flip in (False, True)]
    rows = []
    for (model, runtime), flip in progress(ways, "image to keypoints"):
        prepared, batch_size = prepared_models[model, runtime], batch_sizes[model, runtime]
        _warm_up(prepared, len(boxes), batch_size, codec.input_size, device)
        _, seconds = predict_timed(prepared, annotations, boxes, codec, flip, batch_size, device)
        total = sum(seconds.values())
        rows.append(
            {
                "model": model,
                "runtime": runtime,
                "device": device,
                "threads": torch.get_num_threads(),
                "batch": batch_size,
                "flip": flip,
                "images": len(np.unique(boxes.image_index)),
                "persons": len(boxes),
                **{f"{stage}_s": value for stage, value in seconds.items()},
                "total_s": total,
                "persons/s": len(boxes) / total,
            }
        )
    return rows


def _warm_up(
    prepared: Model, persons: int, batch_size: int, input_size: tuple[int, int], device: str
) -> None:
    """Run a model on the batch sizes to come, the last one's too: some compile for each."""
    for size in {min(batch_size, persons), persons % batch_size} - {0}:
        images: Tensor = torch.randn(size, 3, *input_size, device=device)
        with torch.inference_mode():
            for _ in range(WARM_UPS):
                prepared(images)

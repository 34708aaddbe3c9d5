"""The whole way from picture files to joints, timed stage by stage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from hwl.codec import HeatmapCodec
from hwl.data.annotations import Annotations, Boxes
from hwl.data.transforms import joints_to_picture, normalise
from hwl.prediction import Network, PictureCrops, average_mirrored, batches
from hwl.progress import progress

# In the order in which a picture meets them.
STAGES = ("reading", "cropping", "network", "decoding")
WARM_UPS = 3


def crowded(annotations: Annotations, pictures: int) -> Boxes:
    """Ground-truth boxes of the pictures with the most labelled persons, at most so many."""
    boxes = annotations.ground_truth_boxes()
    persons = np.bincount(boxes.picture_index, minlength=len(annotations.picture_ids))
    chosen = np.argsort(-persons, kind="stable")[:pictures]
    keep = np.isin(boxes.picture_index, chosen)
    return replace(
        boxes,
        picture_index=boxes.picture_index[keep],
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
    network: Network,
    annotations: Annotations,
    boxes: Boxes,
    codec: HeatmapCodec,
    flip: bool,
    batch_size: int,
    device: str,
) -> tuple[np.ndarray, dict[str, float]]:
    """What `hwl.prediction.predict` does in one process, by the same functions, with a clock.

    Reading is decoding the file; cropping includes putting batches together, normalising, mirroring
    and the way to the device; decoding includes turning mirrored heatmaps back and the way back to
    the picture.

    Args:
        network: the pose network, on `device`.
        annotations: the pictures and the joints.
        boxes: where to predict.
        codec: knows the input size and decodes.
        flip: use the flip test.
        batch_size: crops a forward pass.
        device: where the network is, "cpu" or "cuda".

    Returns:
        Joints (B, K, 2) in picture pixels and seconds by stage.
    """
    pictures = PictureCrops(annotations, boxes, codec)
    joints = np.zeros((len(boxes), len(annotations.skeleton), 2))
    clock = Clock()

    def crops_of_pictures() -> Iterator[tuple]:
        for item in range(len(pictures)):
            clock.ended("cropping")  # of the picture before
            picture = pictures.read(item)
            clock.ended("reading")
            yield pictures.crop(item, picture)

    with torch.inference_mode():
        for numbers, crops, centres, sizes in batches(crops_of_pictures(), batch_size):
            plain = normalise(crops.to(device))
            inputs = [plain, plain.flip(3)] if flip else [plain]
            clock.ended("cropping")
            heatmaps = [network(pictures).float() for pictures in inputs]
            if device == "cuda":
                torch.cuda.synchronize()
            clock.ended("network")
            if flip:
                heatmaps = [average_mirrored(*heatmaps, annotations.skeleton)]
            cells, _ = codec.decode(heatmaps[0])
            joints[numbers] = joints_to_picture(cells, centres, sizes, codec.input_size)
            clock.ended("decoding")
    return joints, clock.seconds


def time_whole_way(
    networks: dict[tuple[str, str], Network],
    batch_sizes: dict[tuple[str, str], int],
    annotations: Annotations,
    boxes: Boxes,
    codec: HeatmapCodec,
    device: str,
) -> list[dict[str, object]]:
    """Seconds by stage of networks, each with and without the flip test.

    Args:
        networks: by system and runtime, on `device`.
        batch_sizes: crops a forward pass, by system and runtime.
        annotations: the pictures.
        boxes: the persons.
        codec: knows the input size.
        device: "cpu" or "cuda".

    Returns:
        A row a network and `flip`.
    """
    for picture_index in np.unique(boxes.picture_index):  # the first network must not pay the disk
        annotations.picture_path(picture_index).read_bytes()
    ways = [(key, flip) for key in networks for flip in (False, True)]
    rows = []
    for (system, runtime), flip in progress(ways, "picture to joints"):
        network, batch_size = networks[system, runtime], batch_sizes[system, runtime]
        _warm_up(network, len(boxes), batch_size, codec.input_size, device)
        _, seconds = predict_timed(network, annotations, boxes, codec, flip, batch_size, device)
        total = sum(seconds.values())
        rows.append(
            {
                "system": system,
                "runtime": runtime,
                "device": device,
                "threads": torch.get_num_threads(),
                "batch": batch_size,
                "flip": flip,
                "pictures": len(np.unique(boxes.picture_index)),
                "persons": len(boxes),
                **{f"{stage}_s": value for stage, value in seconds.items()},
                "total_s": total,
                "persons/s": len(boxes) / total,
            }
        )
    return rows


def _warm_up(
    network: Network, persons: int, batch_size: int, input_size: tuple[int, int], device: str
) -> None:
    """Run a network on the batch sizes to come, the last one's too: some compile for each."""
    for size in {min(batch_size, persons), persons % batch_size} - {0}:
        pictures: Tensor = torch.randn(size, 3, *input_size, device=device)
        with torch.inference_mode():
            for _ in range(WARM_UPS):
                network(pictures)

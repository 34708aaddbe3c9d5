"""Finding persons: torchvision's detectors, and detections files made with them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TypeAlias
from urllib.parse import urlsplit

import numpy as np
import torch
import torchvision
from torch import nn

from hwl.data.annotations import load_split
from hwl.errors import HwlError
from hwl.files import write_json
from hwl.inference.config import DetectConfig
from hwl.progress import progress

# (H, W, 3) uint8 RGB -> person boxes (B, 4) x, y, width, height in pixels, and scores (B,).
Detector: TypeAlias = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
PERSON = "person"


class TorchvisionDetector:
    """A detection model of torchvision as a Detector.

    Args:
        model: takes a list of (3, H, W) float32 between 0 and 1, gives boxes, labels and scores.
        person: its label of persons.
        least_score: boxes below it are left out.
        device: where to detect.
    """

    def __init__(
        self,
        model: nn.Module,
        person: int = 1,
        least_score: float = 0.0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.model = model.eval().to(device)
        self.person = person
        self.least_score = least_score
        self.device = device

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Person boxes (B, 4) x, y, width, height in pixels, the surest first, and scores (B,)."""
        pixels = torch.from_numpy(image).permute(2, 0, 1).to(self.device).float() / 255
        with torch.inference_mode():
            found = self.model([pixels])[0]
        boxes, scores = found["boxes"], found["scores"]
        size = boxes[:, 2:] - boxes[:, :2]
        keep = (
            (found["labels"] == self.person)
            & (scores >= self.least_score)
            & (size > 0).all(dim=1)  # a box of no area has no crop
        )
        boxes = torch.cat([boxes[:, :2], size], dim=1)[keep]
        order = scores[keep].argsort(descending=True, stable=True)
        return (
            boxes[order].double().cpu().numpy(),
            scores[keep][order].double().cpu().numpy(),
        )


def open_detector(
    name: str, least_score: float, device: torch.device | str = "cpu"
) -> TorchvisionDetector:
    """A detector of torchvision with its COCO weights, which are fetched once.

    Args:
        name: of `torchvision.models.detection`.
        least_score: boxes below it are left out.
        device: where to detect.

    Raises:
        HwlError: there is no such detector, or its weights cannot be fetched.
    """
    known = torchvision.models.list_models(module=torchvision.models.detection)
    if name not in known:
        raise HwlError(f"detector '{name}' is not one of torchvision's {', '.join(known)}")
    weights = torchvision.models.get_model_weights(name).DEFAULT
    file_name = PurePosixPath(urlsplit(weights.url).path).name
    target = Path(torch.hub.get_dir()) / "checkpoints" / file_name
    if not target.exists():
        # torchvision prints this entry in its tables of weights and offers it nowhere else.
        size = weights.meta["_file_size"]
        print(f"fetching the weights of detector {name}, {size:.0f} MB, to {target}", flush=True)
    try:
        model = torchvision.models.get_model(name, weights=weights, progress=False)
    except (OSError, RuntimeError) as error:
        raise HwlError(
            f"the weights of detector '{name}' cannot be had from {weights.url} ({error}): say "
            "where the persons are by --box, --boxes FILE or --whole-image"
        ) from error
    return TorchvisionDetector(model, weights.meta["categories"].index(PERSON), least_score, device)


def detect_split(config: DetectConfig, detector: Detector | None = None) -> Path:
    """Write a detections file of a split: image_id, category_id, bbox and score, as COCO's.

    Args:
        config: the split and the file.
        detector: finds the persons; None opens the one that the configuration names.

    Returns:
        The file.

    Raises:
        HwlError: the file is there already or cannot be written, no person is found, or the split
            or the detector cannot be used.
    """
    output = Path(config.output)
    if output.exists():
        raise HwlError(f"{output} is there already: choose another output or move it away")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=output.parent).close()
    except OSError as error:
        raise HwlError(f"{output}: cannot be written ({error.strerror})") from error
    annotations = load_split(Path(config.data), config.split)
    if detector is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        detector = open_detector(config.detector, config.detector_score, device)
    entries = []
    for index in progress(range(len(annotations.image_ids)), "detect"):
        image = annotations.read_image(index)
        for box, score in zip(*detector(image), strict=True):
            entries.append(
                {
                    "image_id": int(annotations.image_ids[index]),
                    "category_id": annotations.category_id,
                    "bbox": [round(float(side), 2) for side in box],
                    "score": round(float(score), 5),
                }
            )
    if not entries:
        raise HwlError(
            f"detector '{config.detector}' finds no person in {annotations.path}'s images: lower "
            f"detector_score, which is {config.detector_score}"
        )
    write_json(output, entries)
    return output

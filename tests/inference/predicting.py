"""Files to predict in, and what predicting leaves."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from hwl.inference.config import PredictConfig
from hwl.inference.detection import Detector
from hwl.inference.predict import predict_files


def images_in(folder: Path, *names: str) -> list[Path]:
    paths = [folder / name for name in names]
    for number, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True, parents=True)
        noise = np.random.default_rng(number).integers(0, 256, (90, 70, 3), dtype=np.uint8)
        cv2.imwrite(str(path), noise)
    return paths


def film(path: Path, frames: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 12.5, (64, 96))
    for brightness in range(frames):
        writer.write(np.full((96, 64, 3), 10 * brightness, np.uint8))
    writer.release()
    return path


def run(
    weights: Path, output: Path, *names: object, detector: Detector | None = None, **how: object
) -> list[Path]:
    config = PredictConfig(**{"weights": str(weights), "output": str(output), "flip": False, **how})
    return predict_files(tuple(map(str, names)), config, detector)


def results(output: Path) -> tuple[list[dict], list[dict]]:
    listing = json.loads((output / "images.json").read_text())
    return json.loads((output / "keypoints_results.json").read_text()), listing["images"]


def tree(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

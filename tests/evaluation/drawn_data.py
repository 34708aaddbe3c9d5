"""A small data set of persons, on disk."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from hwl.skeletons import LSP, Skeleton

PERSONS = 5


def write_data(folder: Path, skeleton: Skeleton = LSP, persons: int = PERSONS) -> Path:
    """Split "val": three noisy images and persons of all keypoints, with head sizes."""
    rng = np.random.default_rng(0)
    (folder / "val").mkdir(parents=True)
    (folder / "annotations").mkdir()
    images, found = [], []
    for number in range(3):
        image = rng.integers(0, 256, (200, 160, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"val/{number}.png"), image)
        images.append(
            {"id": 40 + number, "file_name": f"{number}.png", "width": 160, "height": 200}
        )
    for number in range(persons):
        box = np.array([*rng.uniform(5, 60, 2), *rng.uniform(75, 95, 2)])
        keypoints = rng.random((len(skeleton), 2))
        keypoints[skeleton.index("left_shoulder")] = 0.8, 0.1  # PCK needs a torso
        keypoints[skeleton.index("right_hip")] = 0.3, 0.6
        keypoints = box[:2] + keypoints * box[2:]
        found.append(
            {
                "id": number + 1,
                "image_id": 40 + number % 3,
                "category_id": 1,
                "bbox": box.tolist(),
                "area": box[2] * box[3] * 0.6,
                "head_size": 20,
                "keypoints": np.column_stack([keypoints, np.full(len(keypoints), 2)])
                .ravel()
                .tolist(),
            }
        )
    path = folder / "annotations/person_keypoints_val.json"
    content = {"images": images, "categories": [skeleton.category()], "annotations": found}
    path.write_text(json.dumps(content))
    return folder


def write_detections(data: Path, copies: int = 1) -> Path:
    """Every person's own box so many times, the later the less sure."""
    content = json.loads((data / "annotations/person_keypoints_val.json").read_text())
    boxes = [
        {**{key: p[key] for key in ("image_id", "category_id", "bbox")}, "score": 0.9 - 0.1 * copy}
        for copy in range(copies)
        for p in content["annotations"]
    ]
    path = data / "found.json"
    path.write_text(json.dumps(boxes))
    return path

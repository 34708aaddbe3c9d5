"""Files of the true size and shape of COCO 2017's persons, without COCO: random, all of one image.

Counts are those of person_keypoints_{train,val}2017.json and of the detected person boxes of
SimpleBaseline's authors; polygons are as long as makes the files as large as COCO's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from hwl.files import write_compact_json
from hwl.progress import progress
from hwl.skeletons import COCO

WIDTH, HEIGHT = 640, 480  # pixels of the one image, those of most of COCO's
POLYGON = 50  # corners of a person's outline on average
IMAGE = "image.jpg"


@dataclass(frozen=True)
class Split:
    """How much a split holds: images, persons, those of them that are annotated, and crowds."""

    images: int
    persons: int
    annotated: int
    crowds: int

    def shrunk(self, factor: int) -> Split:
        """The same shape with a fraction of everything."""
        return Split(
            self.images // factor,
            self.persons // factor,
            self.annotated // factor,
            self.crowds // factor,
        )


SPLITS = {
    "train2017": Split(images=118_287, persons=262_465, annotated=149_813, crowds=4_991),
    "val2017": Split(images=5_000, persons=11_004, annotated=6_352, crowds=227),
}
DETECTIONS = 104_125  # boxes of COCO_val2017_detections_AP_H_56_person.json


def write_coco_size(folder: Path, factor: int = 1) -> Path:
    """Write a folder in COCO's layout of COCO's size; about 260 MB.

    Args:
        folder: where it goes.
        factor: leave out all but a fraction 1 / factor.

    Returns:
        The file of detected boxes of val2017.
    """
    rng = np.random.default_rng(0)
    for name, full in SPLITS.items():
        split = full.shrunk(factor)
        (folder / name).mkdir(parents=True, exist_ok=True)
        # Noise on large patches, so that it is as large as a photograph: 160 kB.
        noise = cv2.resize(
            rng.integers(0, 256, (HEIGHT // 4, WIDTH // 4, 3), np.uint8), (WIDTH, HEIGHT)
        )
        cv2.imwrite(str(folder / name / IMAGE), noise)
        images = [
            {"id": number, "file_name": IMAGE, "width": WIDTH, "height": HEIGHT}
            for number in range(1, split.images + 1)
        ]
        content = {
            "images": images,
            "annotations": _persons(split, name, rng),
            "categories": [COCO.category()],
        }
        write_compact_json(folder / "annotations" / f"person_keypoints_{name}.json", content)
    path = folder / "person_detection_results" / "val2017.json"
    count = DETECTIONS // factor
    val = SPLITS["val2017"].shrunk(factor)
    values = zip(
        rng.integers(1, val.images + 1, count).tolist(),
        _boxes(count, rng).tolist(),
        rng.uniform(0, 1, count).tolist(),
        strict=True,
    )
    detections = [
        {"image_id": image, "category_id": 1, "bbox": box, "score": score}
        for image, box, score in values
    ]
    write_compact_json(path, detections)
    return path


def _boxes(count: int, rng: np.random.Generator) -> np.ndarray:
    """(N, 4) x, y, width, height in pixels, within the image."""
    size = np.exp(rng.normal([4.2, 4.8], 0.6, (count, 2))).clip(8, [WIDTH - 2, HEIGHT - 2])
    corner = rng.uniform(0, 1, (count, 2)) * ([WIDTH - 1, HEIGHT - 1] - size)
    return np.hstack([corner, size]).round(2)


def _persons(split: Split, name: str, rng: np.random.Generator) -> list[dict[str, object]]:
    count = split.persons
    boxes = _boxes(count, rng)
    image_ids = np.sort(rng.integers(1, split.images + 1, count)).tolist()
    places = rng.uniform(0, 1, (count, len(COCO), 2)) * boxes[:, None, 2:] + boxes[:, None, :2]
    visible = rng.integers(0, 3, (count, len(COCO), 1))
    visible[:, 0] = 2  # so that every annotated person has a keypoint
    order = rng.permutation(count)
    visible[order[split.annotated :]] = 0
    crowd = np.zeros(count, dtype=int)
    crowd[order[count - split.crowds :]] = 1
    keypoints = np.concatenate([places.round() * (visible > 0), visible], axis=2).astype(int)
    corners = rng.poisson(POLYGON, count).clip(3)
    persons = []
    for number in progress(range(count), name):
        outline = boxes[number, :2] + rng.uniform(0, 1, (corners[number], 2)) * boxes[number, 2:]
        persons.append(
            {
                "id": number + 1,
                "image_id": image_ids[number],
                "category_id": 1,
                "segmentation": [outline.round(2).ravel().tolist()],
                "num_keypoints": int((visible[number] > 0).sum()),
                "area": round(float(boxes[number, 2:].prod() * 0.6), 2),
                "iscrowd": int(crowd[number]),
                "keypoints": keypoints[number].ravel().tolist(),
                "bbox": boxes[number].tolist(),
            }
        )
    return persons

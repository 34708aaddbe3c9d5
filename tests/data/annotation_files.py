"""Tiny annotation files, to be changed and read."""

from __future__ import annotations

import json
from pathlib import Path

from hwl.data.annotations import Annotations, load_annotations

Content = dict[str, list]


def person(number: int, image: int, **changes: object) -> dict[str, object]:
    """Annotation `number` of a three-keypoint skeleton, its numbers told apart by that number."""
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "bbox": [number, 2, 30, 40],
        "area": 600.5 + number,
        "keypoints": [number, 5, 2, number + 1.5, 6, 1, 0, 0, 0],
        **changes,
    }


def content() -> Content:
    """Two images whose ids are not in order, three persons, one of them a crowd."""
    return {
        "images": [
            {"id": 70, "file_name": "b.png", "width": 40, "height": 30},
            {"id": 30, "file_name": "a.png", "width": 20, "height": 10},
        ],
        "categories": [
            {"id": 1, "name": "face", "keypoints": ["nose", "left_eye", "right_eye"]},
            {"id": 2, "name": "cat"},
        ],
        "annotations": [person(11, 30), person(12, 70, iscrowd=1), person(13, 70, head_size=9.5)],
    }


def load(folder: Path, raw: Content) -> Annotations:
    path = folder / "keypoints.json"
    path.write_text(json.dumps(raw))
    return load_annotations(path, folder)

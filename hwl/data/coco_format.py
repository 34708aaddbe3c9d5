"""COCO's keypoint and detection files as msgspec schemas: what an entry must have to be read.

What the schemas cannot say, that numbers fit together and lie within bounds, is checked on whole
arrays in `hwl.data.validate`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from hwl.errors import HwlError

Schema = TypeVar("Schema")
Id = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Side = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]  # pixels
XYWH = tuple[float, float, float, float]


class CocoImage(msgspec.Struct):
    """An entry of `images`."""

    id: Id
    file_name: str
    width: Side
    height: Side


class CocoPerson(msgspec.Struct):
    """An entry of `annotations`; `head_size` in pixels is not COCO's, PCKh needs it."""

    id: Id
    image_id: Id
    category_id: Id
    bbox: XYWH
    area: float
    keypoints: list[float] = []  # other categories' entries have none
    iscrowd: int = 0
    head_size: float = float("nan")


class CocoCategory(msgspec.Struct):
    """An entry of `categories`; `flip_pairs`, left and right keypoint names, is not COCO's."""

    id: Id
    name: str
    keypoints: list[str] = []
    skeleton: list[tuple[int, int]] = []
    flip_pairs: list[tuple[str, str]] | None = None


class CocoFile(msgspec.Struct):
    """A keypoint file; test-dev's list of images has no `annotations`."""

    images: list[CocoImage]
    categories: list[CocoCategory]
    annotations: list[CocoPerson] = []


class CocoDetection(msgspec.Struct):
    """An entry of a file of detected boxes."""

    image_id: Id
    category_id: Id
    bbox: XYWH
    score: float


def decode(path: Path, schema: type[Schema]) -> Schema:
    """The content of a JSON file, checked against a schema.

    Raises:
        HwlError: the file cannot be read or is not of the schema; the entry is named.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=schema)
    except OSError as error:
        raise HwlError(
            f"{path}: cannot be read ({error.strerror}); `hwl data --help` lists what makes, "
            "fetches or converts data"
        ) from error
    except (ValueError, RecursionError) as error:  # msgspec's errors and those of Unicode
        raise HwlError(f"{path} is not a COCO-format file: {error}") from error

"""Reading COCO-format keypoint annotations and detected boxes, checked and fast.

A file is decoded by msgspec against a schema, turned into arrays at once and checked as arrays, so
that the 262,465 persons of COCO train2017 load in seconds and travel cheaply to data-loader
processes.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hwl.data.coco_format import CocoDetection, CocoFile, decode
from hwl.data.crops import clip_boxes
from hwl.data.images import orientation, read_image
from hwl.data.validate import check_categories, check_detections, check_persons
from hwl.errors import HwlError
from hwl.skeletons import COCO, MPII, Skeleton, skeleton_from_category


@dataclass(frozen=True)
class Annotations:
    """One keypoint file as arrays: M images and P persons of K keypoints.

    Attributes:
        path: the annotation file.
        folder: where its images lie.
        skeleton: the K keypoints.
        image_ids: (M,) int64.
        file_names: M names within `folder`.
        image_sizes: (M, 2) int64 width, height in pixels.
        ids: (P,) int64 annotation ids.
        image_index: (P,) int64 index into the images.
        boxes: (P, 4) float64 x, y, width, height in image pixels.
        areas: (P,) float64 segment areas in square pixels.
        keypoints: (P, K, 3) float64 x, y in image pixels and visibility (0 unannotated, 1 hidden,
            2 visible).
        crowd: (P,) bool, groups of people that COCO ignores.
        head_sizes: (P,) float64 pixels, NaN where the file has none (PCKh needs it).
        category_id: of the persons, in this file, its detections and its results.
    """

    path: Path
    folder: Path
    skeleton: Skeleton
    image_ids: np.ndarray
    file_names: tuple[str, ...]
    image_sizes: np.ndarray
    ids: np.ndarray
    image_index: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    keypoints: np.ndarray
    crowd: np.ndarray
    head_sizes: np.ndarray
    category_id: int = 1

    def image_path(self, index: int) -> Path:
        """Path of the image at that index."""
        return self.folder / self.file_names[index]

    def read_image(self, index: int) -> np.ndarray:
        """The image at that index, (H, W, 3) uint8 RGB.

        Raises:
            HwlError: it cannot be read, or is of another size than annotated.
        """
        path, (width, height) = self.image_path(index), self.image_sizes[index]
        image = read_image(path)
        if image.shape[:2] != (height, width):
            why = "it is not the image that was annotated; fetch it again or correct the file"
            if image.shape[:2] == (width, height) and orientation(path) > 1:
                why = "it was annotated turned by its EXIF orientation; store it so, without EXIF"
            raise HwlError(
                f"{path} is {image.shape[1]}x{image.shape[0]} pixels, {self.path} says "
                f"{width}x{height}: {why}"
            )
        return image

    def annotated(self) -> np.ndarray:
        """(Q,) indices of persons to learn from and to predict in, by mmpose 0.x's rules.

        They are not a crowd, have at least one annotated keypoint, a positive area, and a box that
        is wider and higher than a pixel within the image.

        Raises:
            HwlError: there is none; the reasons are counted.
        """
        reasons = self.left_out()
        out = np.logical_or.reduce(list(reasons.values()))
        if out.all():
            counts = [f"{which.sum()} {reason}" for reason, which in reasons.items() if which.any()]
            why = f": of {len(out)}, " + ", ".join(counts) if len(out) else ""
            raise HwlError(f"{self.path}: the data set is empty, no person to learn from{why}")
        return np.flatnonzero(~out)

    def left_out(self) -> dict[str, np.ndarray]:
        """Persons that `annotated` leaves out: reason to (P,) bool, the first reason of each."""
        reasons = {
            "are crowds": self.crowd,
            "have no annotated keypoint": ~(self.keypoints[:, :, 2] > 0).any(axis=1),
            "have no area": ~(self.areas > 0),
            "have a box of at most a pixel within the image": ~(self._clipped()[:, 2:] > 0).all(
                axis=1
            ),
        }
        first: dict[str, np.ndarray] = {}
        for reason, which in reasons.items():
            first[reason] = np.logical_and.reduce([which, *(~one for one in first.values())])
        return first

    def first(self, count: int) -> Annotations:
        """Only the first `count` annotated persons and their images; everything where it is 0.

        Raises:
            HwlError: a negative count.
        """
        if count < 0:
            raise HwlError(f"limit is {count}: it must not be negative; 0 takes all persons")
        if not count:
            return self
        persons = self.annotated()[:count]
        images, image_index = np.unique(self.image_index[persons], return_inverse=True)
        return replace(
            self,
            image_ids=self.image_ids[images],
            file_names=tuple(self.file_names[image] for image in images),
            image_sizes=self.image_sizes[images],
            ids=self.ids[persons],
            image_index=image_index,
            boxes=self.boxes[persons],
            areas=self.areas[persons],
            keypoints=self.keypoints[persons],
            crowd=self.crowd[persons],
            head_sizes=self.head_sizes[persons],
        )

    def ground_truth_boxes(self) -> Boxes:
        """The annotated persons' own boxes, clipped to the image but for MPII's, with score 1.

        This is a protocol apart from that of detected boxes, which are not clipped.
        """
        persons = self.annotated()
        return Boxes(
            image_index=self.image_index[persons],
            boxes=self._clipped()[persons],
            scores=np.ones(len(persons)),
            source="ground truth",
        )

    def _clipped(self) -> np.ndarray:
        # MPII's boxes are squares about a center, which mmpose 0.x's TopDownMpiiDataset crops as
        # they are.
        if self.skeleton.keypoints == MPII.keypoints:
            return self.boxes
        return clip_boxes(self.boxes, self.image_sizes[self.image_index])


@dataclass(frozen=True)
class Boxes:
    """B person boxes to predict in.

    Attributes:
        image_index: (B,) int64 index into an Annotations' images.
        boxes: (B, 4) float64 x, y, width, height in image pixels.
        scores: (B,) float64 detection scores, 1 for ground truth.
        source: "ground truth" or the name of the detections' file, for tables.
    """

    image_index: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    source: str

    def __len__(self) -> int:
        return len(self.scores)


def load_split(data: Path, split: str) -> Annotations:
    """The annotations of one split of a COCO-layout folder, from `split_files`.

    Raises:
        HwlError: as `load_annotations`.
    """
    files = split_files(data, split)
    return load_annotations(files["annotations"], files["images"])


def split_files(data: Path, split: str) -> dict[str, Path]:
    """Where one split of a COCO-layout folder has its `annotations` and its `images`.

    `<data>/annotations/person_keypoints_<split>.json` or, of a split whose keypoints are not
    public, `image_info_<split>.json`. Images are in `<data>/<split>/`, else in `<data>/images/`;
    those of test-dev2017 are in `<data>/test2017/`.
    """
    path = data / "annotations" / f"person_keypoints_{split}.json"
    images_only = path.with_name(f"image_info_{split}.json")
    if images_only.exists() and not path.exists():
        path = images_only
    folders = (data / split, data / split.replace("-dev", ""))
    folder = next((folder for folder in folders if folder.is_dir()), data / "images")
    return {"annotations": path, "images": folder}


def load_annotations(path: Path, folder: Path) -> Annotations:
    """A COCO-format keypoint file with its images in `folder`.

    A file that lists images only, such as COCO's test-dev2017, has no persons and COCO's keypoints.

    Raises:
        HwlError: the file is missing or not of the format, no category has keypoints, an id is
            repeated or unknown, or an entry is wrong; the entry is named.
    """
    raw = decode(path, CocoFile)
    if not raw.images:
        raise HwlError(f"{path}: the data set is empty, 'images' lists no image")
    skeleton, category_id = _keypoint_category(path, raw)
    check_categories(
        path,
        raw.categories,
        category_id,
        np.array([person.id for person in raw.annotations], dtype=np.int64),
        np.array([person.category_id for person in raw.annotations], dtype=np.int64),
    )
    persons = [person for person in raw.annotations if person.category_id == category_id]
    for person in persons:
        if len(person.keypoints) != 3 * len(skeleton):
            raise HwlError(
                f"{path}: annotation {person.id} has {len(person.keypoints)} numbers in "
                f"'keypoints', {len(skeleton)} keypoints of skeleton {skeleton.name} need "
                f"{3 * len(skeleton)}"
            )
    image_ids = _unique(path, "images", [image.id for image in raw.images])
    ids = _unique(path, "annotations", [person.id for person in persons])
    found = Annotations(
        path=path,
        folder=folder,
        skeleton=skeleton,
        image_ids=image_ids,
        file_names=tuple(image.file_name for image in raw.images),
        image_sizes=np.array([(p.width, p.height) for p in raw.images], dtype=np.int64),
        ids=ids,
        image_index=_index(
            path, image_ids, [person.image_id for person in persons], "annotation", ids
        ),
        boxes=np.array([p.bbox for p in persons], dtype=np.float64).reshape(-1, 4),
        areas=np.array([person.area for person in persons], dtype=np.float64),
        keypoints=np.array([p.keypoints for p in persons], dtype=np.float64).reshape(
            -1, len(skeleton), 3
        ),
        crowd=np.array([person.iscrowd for person in persons], dtype=bool),
        head_sizes=np.array([person.head_size for person in persons], dtype=np.float64),
        category_id=category_id,
    )
    check_persons(path, ids, found.boxes, found.areas, found.keypoints, found.head_sizes)
    if not skeleton.pairs and skeleton.flip_pairs is None:
        warnings.warn(
            f"{path}: no two keypoints of skeleton {skeleton.name} are a left and a right one, so "
            "flips exchange none; if some are, give the category its 'flip_pairs': "
            "[[left, right], ...], else give it []",
            stacklevel=2,
        )
    return found


def load_detections(path: Path, annotations: Annotations) -> Boxes:
    """Detected person boxes, COCO's result format: image_id, category_id, bbox, score.

    Boxes of other categories than the annotations' are left out. All scores are kept, as in the
    paper's protocol.

    Raises:
        HwlError: the file is missing or not of the format, a box is in an unknown image or without
            extent, or there is none.
    """
    detections = decode(path, list[CocoDetection])
    person = annotations.category_id
    entries = [entry for entry, box in enumerate(detections) if box.category_id == person]
    found = [detections[entry] for entry in entries]
    if not found:
        others = sorted({box.category_id for box in detections})
        raise HwlError(
            f"{path}: no person box (category_id {person} of {annotations.path.name}) among its "
            f"{len(detections)} boxes"
            + (f", whose category_ids are {others[:5]}" if others else "")
        )
    boxes = Boxes(
        image_index=_index(
            path, annotations.image_ids, [box.image_id for box in found], "entry", entries
        ),
        boxes=np.array([box.bbox for box in found], dtype=np.float64),
        scores=np.array([box.score for box in found], dtype=np.float64),
        source=path.name,
    )
    check_detections(path, entries, boxes.boxes)
    return boxes


def _keypoint_category(path: Path, raw: CocoFile) -> tuple[Skeleton, int]:
    with_keypoints = [category for category in raw.categories if category.keypoints]
    if len(with_keypoints) > 1:
        raise HwlError(f"{path}: more than one category has 'keypoints'; leave one in the file")
    if with_keypoints:
        category = with_keypoints[0]
        try:
            skeleton = skeleton_from_category(
                category.name, category.keypoints, category.skeleton, category.flip_pairs
            )
        except HwlError as error:
            raise HwlError(f"{path}: {error}") from error
        return skeleton, category.id
    if raw.annotations:
        raise HwlError(f"{path}: no category lists 'keypoints', the names of the keypoints")
    return COCO, 1


def _unique(path: Path, what: str, ids: list[int]) -> np.ndarray:
    """Ids as an array; pycocotools would silently drop a repeated one."""
    array = np.array(ids, dtype=np.int64)
    values, counts = np.unique(array, return_counts=True)
    if len(values) != len(array):
        raise HwlError(f"{path}: id {values[counts > 1][0]} occurs twice in '{what}'")
    return array


def _index(
    path: Path,
    image_ids: np.ndarray,
    wanted: list[int],
    what: str,
    numbers: Sequence[int] | np.ndarray,
) -> np.ndarray:
    """Index into `image_ids` of each wanted id; `what` and its number name a wrong one."""
    order = np.argsort(image_ids)
    ids = np.array(wanted, dtype=np.int64)
    position = order[np.searchsorted(image_ids, ids, sorter=order).clip(max=len(order) - 1)]
    unknown = image_ids[position] != ids
    if unknown.any():
        first = unknown.argmax()
        raise HwlError(
            f"{path}: {what} {numbers[first]} is in image {ids[first]}, which 'images' of the "
            "annotation file does not list"
        )
    return position

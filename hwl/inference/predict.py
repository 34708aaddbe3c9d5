"""Poses of the persons in photographs and videos: drawings and COCO-format results."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import msgspec
import numpy as np

from hwl.data.images import write_image
from hwl.errors import HwlError
from hwl.files import write_json
from hwl.inference.config import PredictConfig
from hwl.inference.detection import Detector, open_detector
from hwl.inference.images import as_image
from hwl.inference.load import open_predictor, shared_options
from hwl.inference.poses import Poses, coco_results, pose_scores
from hwl.inference.predictor import Predictor
from hwl.inference.sources import find_files, is_video, read_video, video_rate
from hwl.progress import progress
from hwl.runs.folder import new_run

RESULTS = "keypoints_results.json"  # persons, as pycocotools and the test server take them
# The images that the results' image_id means, the keypoints' names and the files that were skipped.
LISTING = "images.json"
NAMED = 3  # skipped files that an error message names
CHUNK = 16  # images at a time, which bounds the memory
Box = tuple[float, float, float, float]


class _UnusableFile(HwlError):
    """A file that cannot be read or predicted in, which says nothing of the others; stays here."""


def predict_files(
    names: tuple[str, ...], config: PredictConfig, detector: Detector | None = None
) -> list[Path]:
    """Predict the persons in files; draw them, all of an image in one drawing, and write results.

    A file that cannot be read or predicted in is skipped, and LISTING has it with the reason. The
    drawings and results of the others are kept, and then it is raised.

    Args:
        names: image files, folders, globs and videos.
        config: weights, where the persons are, and where the output goes.
        detector: finds the persons where no boxes are given; None opens the configured one.

    Returns:
        The drawings: `<name>.png` for an image, `<name>.mp4` for a video. Beside them are RESULTS
        and LISTING.

    Raises:
        HwlError: files were skipped; or, with nothing left, none can be used, the weights or boxes
            cannot be used, a drawing cannot be written, or the output is no folder of an earlier
            predict, which is replaced whole.
    """
    files = find_files(names)
    output = Path(config.output)
    boxes = _given_boxes(config)
    if isinstance(boxes, dict):
        for path in files:
            if path.name not in boxes:
                raise HwlError(f"{path}: the file of boxes has no entry '{path.name}'")
    reads = {str(path): str(path) for path in files} | {"boxes": config.boxes}
    with new_run(config, {name: path for name, path in reads.items() if path}) as folder:
        predictor = open_predictor(config.weights, shared_options(config), config.runtime)
        if boxes is None and not config.whole_image:
            device = predictor.model.mean.device
            detector = detector or open_detector(config.detector, config.detector_score, device)
        else:
            detector = None
        gallery = _Gallery(folder)
        for path in progress(files, "predict"):
            gallery.add(path, _poses(predictor, path, boxes, detector))
        gallery.finish(predictor)
    if skipped := [entry["reason"] for entry in gallery.skipped]:
        named = "; ".join(skipped[:NAMED]) + ("; ..." if len(skipped) > NAMED else "")
        raise HwlError(
            f"{len(skipped)} of {len(files)} files could not be predicted ({named}): {LISTING} "
            f"lists them; the others' drawings and results are in {output}"
        )
    return [output / name for name in gallery.drawings]


def _given_boxes(config: PredictConfig) -> list[Box] | dict[str, list[Box]] | None:
    """Boxes of all images, or by file name; None where there are none."""
    ways = [bool(config.box), bool(config.boxes), config.whole_image]
    if sum(ways) > 1:
        raise HwlError("give one of --box, --boxes and --whole-image, not several")
    if not config.boxes:
        return config.box or None
    path = Path(config.boxes)
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, list[Box]])
    except OSError as error:
        raise HwlError(f"boxes {path}: cannot be read ({error.strerror})") from error
    except msgspec.DecodeError as error:
        raise HwlError(
            f'boxes {path}: must be JSON like {{"photo.jpg": [[x, y, width, height]]}}: {error}'
        ) from error


def _poses(
    predictor: Predictor,
    path: Path,
    boxes: list[Box] | dict[str, list[Box]] | None,
    detector: Detector | None,
) -> Iterator[Poses]:
    """Of each frame of a file, CHUNK frames at a time; raises _UnusableFile."""
    if isinstance(boxes, dict):
        boxes = boxes[path.name]
    try:
        frames = read_video(path) if is_video(path) else iter([as_image(path)])
        while chunk := list(itertools.islice(frames, CHUNK)):
            if detector is None:
                yield from predictor(chunk, [boxes] * len(chunk))
                continue
            found = [detector(image) for image in chunk]
            poses = predictor(chunk, [where for where, _ in found])
            for one, (_, scores) in zip(poses, found, strict=True):
                yield replace(one, box_scores=scores)
    except HwlError as error:
        told = str(error) if str(path) in str(error) else f"{path}: {error}"
        raise _UnusableFile(told) from error


class _Gallery:
    """Drawings and results in the making.

    Args:
        folder: where they are written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.drawings: list[str] = []
        self.images: list[dict[str, object]] = []
        self.results: list[dict[str, object]] = []
        self.skipped: list[dict[str, str]] = []

    def add(self, path: Path, frames: Iterator[Poses]) -> None:
        """Draw a file's frames and take their persons into the results, or skip it whole."""
        name = self._name(path, ".mp4" if is_video(path) else ".png")
        images, results = len(self.images), len(self.results)
        try:
            if is_video(path):
                self._write_video(path, self._take(path, name, frames), name)
            else:
                for drawn in self._take(path, name, frames):
                    write_image(self.folder / name, drawn)
        except _UnusableFile as error:
            del self.images[images:], self.results[results:]
            (self.folder / name).unlink(missing_ok=True)  # what there is of a video
            self.skipped.append({"file_name": str(path), "reason": str(error)})
        else:
            self.drawings.append(name)

    def finish(self, predictor: Predictor) -> None:
        """Write the results and what their numbers mean; HwlError where all files were skipped."""
        if not self.drawings:
            raise HwlError(self.skipped[0]["reason"])
        write_json(self.folder / RESULTS, self.results)
        listing = {"images": self.images, "categories": [predictor.skeleton.category()]}
        write_json(self.folder / LISTING, {**listing, "skipped": self.skipped})

    def _name(self, path: Path, ending: str) -> str:
        """The file's own, numbered where another file of that name was before."""
        names = (f"{path.stem}{mark}{ending}" for mark in ("", *(f"-{n}" for n in range(2, 10**6))))
        return next(name for name in names if name not in self.drawings)

    def _take(self, path: Path, drawing: str, frames: Iterator[Poses]) -> Iterator[np.ndarray]:
        for frame, poses in enumerate(frames):
            drawn = poses.draw()
            number = len(self.images) + 1
            height, width = drawn.shape[:2]
            self.images.append(
                {
                    "id": number,
                    "file_name": str(path),
                    **({"frame": frame} if is_video(path) else {}),
                    "width": width,
                    "height": height,
                    "drawing": drawing,
                }
            )
            self.results += coco_results(poses, [number] * len(poses), pose_scores(poses))
            yield drawn

    def _write_video(self, path: Path, frames: Iterator[np.ndarray], name: str) -> None:
        target, writer = self.folder / name, None
        codec = cv2.VideoWriter.fourcc(*"mp4v")
        try:
            for frame in frames:
                if writer is None:
                    size = (frame.shape[1], frame.shape[0])
                    writer = cv2.VideoWriter(str(target), codec, video_rate(path), size)
                writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        finally:
            if writer is not None:
                writer.release()
        if not target.is_file() or not target.stat().st_size:
            raise HwlError(f"the drawing {name} cannot be written: this OpenCV encodes no MP4")

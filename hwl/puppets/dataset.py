"""The embedded data set: COCO-format images of clothed puppets, drawn here from a seed.

Each image has its own random generator, so the files do not depend on the number of processes.
"""

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import cv2
import msgspec
import numpy as np

from hwl.errors import HwlError
from hwl.processor import cores
from hwl.progress import progress
from hwl.puppets.config import FORMAT, LABEL, PuppetConfig
from hwl.puppets.detector import Detector
from hwl.puppets.scenes import draw_scene
from hwl.skeletons import COCO

QUALITY = (60, 95)  # of the JPEG files
DETECTOR = Detector()


def make_puppets(config: PuppetConfig, processes: int | None = None) -> Path:
    """Draw the data set in COCO's layout, unless it is there already.

    Args:
        config: the folder, the numbers of images and the seed.
        processes: that draw (None: one for each core of this job); the files do not depend on it.

    Returns:
        The folder.

    Raises:
        HwlError: the folder holds anything but the puppets of this config, or a process that draws
            was killed.
    """
    folder = Path(config.folder)
    if config.drawn():
        return folder
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a killed run that had the same number
    try:
        for part in ("train2017", "val2017", "annotations", "person_detection_results"):
            (unfinished / part).mkdir(parents=True)
        _fill(unfinished, config, processes or cores())
        (unfinished / LABEL).write_bytes(config.label())
        try:
            unfinished.rename(folder)
        except OSError:
            if not config.drawn():  # another process may have made it meanwhile
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _fill(folder: Path, config: PuppetConfig, processes: int) -> None:
    """Draw all images into a folder and write their annotations and detections."""
    counts = {"train2017": config.train_images, "val2017": config.val_images}
    tasks = [
        (folder / name, (config.seed, split, index), index + 1 + split * config.train_images)
        for split, name in enumerate(counts)
        for index in range(counts[name])
    ]
    try:
        with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
            drawing = pool.map(_draw_image, tasks, chunksize=8)
            drawn = list(progress(drawing, "draw puppets", total=len(tasks)))
    except BrokenProcessPool as error:
        raise HwlError(
            f"{config.folder}: a process that draws puppets was killed, most likely because memory "
            "ran out; end other programs and run again. A script of yours must call this below "
            "`if __name__ == '__main__':`, for the processes read it anew"
        ) from error
    train, val = drawn[: config.train_images], drawn[config.train_images :]
    for name, images in (("train2017", train), ("val2017", val)):
        listing = {
            "info": {"description": "hwl puppets", "version": str(FORMAT), "year": 2022},
            "licenses": [{"id": 1, "name": "MIT", "url": "https://opensource.org/license/mit"}],
            "images": [image for image, _, _ in images],
            "annotations": [entry for _, entries, _ in images for entry in entries],
            "categories": [COCO.category()],
        }
        path = folder / "annotations" / f"person_keypoints_{name}.json"
        path.write_bytes(msgspec.json.encode(listing))
    path = folder / "person_detection_results" / "val2017_simulated_detections.json"
    path.write_bytes(msgspec.json.encode([found for _, _, boxes in val for found in boxes]))


def _draw_image(task: tuple[Path, Sequence[int], int]) -> tuple[dict, list[dict], list[dict]]:
    """Draw one image to a file; return its COCO entry, annotations and detections."""
    folder, seed, image_id = task
    cv2.setNumThreads(1)  # the processes share the cores already
    rng = np.random.default_rng(seed)
    image, people = draw_scene(rng)
    name, (height, width) = f"{image_id:012d}.jpg", image.shape[:2]
    quality = int(rng.integers(*QUALITY, endpoint=True))
    jpeg = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    (folder / name).write_bytes(jpeg.tobytes())
    entry = {"id": image_id, "license": 1, "file_name": name, "width": width, "height": height}
    annotations = [
        {"id": 100 * image_id + number, "image_id": image_id, "category_id": 1, "iscrowd": 0,
         "bbox": person.box, "area": int(np.count_nonzero(person.mask)),
         "num_keypoints": int(np.count_nonzero(person.keypoints[:, 2])),
         "keypoints": [round(value, 1) for value in person.keypoints.ravel().tolist()]}
        for number, person in enumerate(people, start=1)
    ]  # fmt: skip
    detections = [
        {"image_id": image_id, "category_id": 1, **found}
        for found in DETECTOR.detect(rng, [person.box for person in people], (width, height))
    ]
    return entry, annotations, detections

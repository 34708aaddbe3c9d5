"""The built-in data set: COCO-format pictures of clothed puppets, drawn here from a seed.

Each picture has its own random generator, so the files do not depend on the number of processes.
"""

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import cv2
import msgspec
import numpy as np
from numpy.random import Generator
from pycocotools.mask import iou

from hwl.data import puppet_drawing as puppet
from hwl.data.puppet_cloth import Cloth, random_cloth, random_colour
from hwl.data.puppet_drawing import Body, Shape, hull
from hwl.errors import HwlError
from hwl.progress import progress
from hwl.skeletons import COCO

# How difficult the pictures are.
PEOPLE_CHANCES = (0.4, 0.35, 0.16, 0.05, 0.03, 0.01)  # of 1, 2, ... figures
HEIGHTS = (110.0, 290.0)  # pixels, standing; in crowds of four or more up to 0.6 of it
OVERLAP = 0.25  # greatest IoU of the boxes around two figures' joints
OCCLUDER_CHANCE = 0.15  # of furniture in front of a figure
CLUTTER = (2, 9)  # fewest and most shapes in the background
STRAY_LIMBS = (0, 2)  # fewest and most limb-like things in the background
LIGHT = 0.15  # strength of brightness, contrast, gamma, colour cast and shade; 0 for none
BLUR = 0.7  # pixels, greatest standard deviation
NOISE = 6.0  # grey levels, greatest standard deviation
QUALITY = (60, 95)  # of the JPEG files

# How good the simulated detector is.
MISSED, DOUBLED, FALSE_ALARMS = 0.05, 0.08, 0.4  # per figure, per figure, per picture
JITTER = 0.05  # standard deviation of a box's centre and size, over its size

FORMAT = 1  # raise it when a seed's pictures change
LABEL = "puppets.json"  # tells how a folder was made
SMALLEST_BOX = 40  # pixels, longer side of an annotated figure
LEAST_SEEN = 0.12  # share of a figure in sight for an annotator to mark it
TAGS = 32  # a pixel painted by a part of a figure is tagged figure * TAGS + part


@dataclass(frozen=True)
class PuppetConfig:
    """Where the puppets go, how many pictures there are and which seed draws them."""

    folder: str = "data/puppets"  # path, made whole or not at all
    train_images: int = 900  # pictures
    val_images: int = 200  # pictures
    seed: int = 0  # whole number from 0


@dataclass(frozen=True)
class Person:
    """An annotated figure; its mask covers what is in the picture, hidden or not."""

    joints: np.ndarray  # (17, 3) x and y in pixels, COCO's visibility
    mask: np.ndarray  # (h, w) bool

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, width and height of the mask in pixels."""
        return cv2.boundingRect(self.mask.astype(np.uint8))


@dataclass
class Canvas:
    """A picture in the making: RGB floats (h, w, 3) and the tag of each pixel's last painter."""

    image: np.ndarray
    tags: np.ndarray

    def paint(self, shape: Shape, figure: int = 0, mask: np.ndarray | None = None) -> None:
        """Fill a shape, darken its outline, tag it as a figure's and add it to the mask (h, w)."""
        corner = np.maximum(np.floor(shape.polygon.min(axis=0)).astype(int) - 1, 0)
        end = np.maximum(np.ceil(shape.polygon.max(axis=0)).astype(int) + 2, 0)
        window = slice(corner[1], end[1]), slice(corner[0], end[0])
        target = self.image[window]
        if target.size == 0:
            return
        fill, edge = np.zeros((2, *target.shape[:2]), np.uint8)
        points = [np.round((shape.polygon - corner) * 16).astype(np.int32)]
        cv2.fillPoly(fill, points, 255, cv2.LINE_AA, shift=4)
        cv2.polylines(edge, points, True, 255, 1, cv2.LINE_AA, shift=4)
        dye = _dye(shape, np.arange(fill.shape[1]) + corner[0], np.arange(len(fill)) + corner[1])
        target += fill[..., None] * np.float32(1 / 255) * (dye - target)
        target *= 1 - edge[..., None] * np.float32(0.6 / 255)
        self.tags[window][fill > 127] = figure * TAGS + shape.part
        if mask is not None:
            mask[window] |= fill > 127


def _dye(shape: Shape, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Give the colours (h, w, 3) of a shape's cloth at columns x and rows y, (3,) if plain."""
    cloth, (right, down) = shape.cloth, shape.along
    colour, second = np.array((cloth.colour, cloth.second), np.float32)
    if cloth.pattern == "plain":
        return colour
    turn = 2 * np.pi / cloth.period
    hoops = np.sin(turn * np.add.outer(y * down, x * right))
    stripes = np.sin(turn * np.add.outer(y * right, -x * down))
    wave = {"hoops": hoops, "stripes": stripes, "checks": 2 * hoops * stripes}[cloth.pattern]
    mix = np.clip(0.5 + 2 * wave, 0, 1).astype(np.float32)[..., None]
    return colour + mix * (second - colour)


def draw_scene(
    rng: Generator, people: int | None = None, occluder_chance: float = OCCLUDER_CHANCE
) -> tuple[np.ndarray, list[Person]]:
    """Draw a picture (h, w, 3), RGB in uint8, and give the people an annotator would mark in it.

    people is the number of figures to place, drawn at random if None; those that find no room or
    end up all but hidden are left out.
    """
    width, height = int(rng.integers(320, 401)), int(rng.integers(240, 301))
    if rng.random() < 0.4:
        width, height = height, width
    if people is None:
        people = 1 + int(rng.choice(len(PEOPLE_CHANCES), p=PEOPLE_CHANCES))
    canvas = _background(rng, width, height)
    bodies = _place_bodies(rng, width, height, people)
    masks = np.zeros((len(bodies), height, width), bool)
    for i, body in enumerate(bodies):
        for shape in puppet.body_shapes(body):
            canvas.paint(shape, i + 1, masks[i])
        if rng.random() < occluder_chance:
            _occlude(rng, canvas, body)
    persons = []
    for i, (body, mask) in enumerate(zip(bodies, masks, strict=True)):
        person = Person(_label(body, i + 1, canvas.tags), mask)
        in_sight = np.count_nonzero(canvas.tags // TAGS == i + 1)
        noticed = max(person.box[2:]) >= SMALLEST_BOX and in_sight >= LEAST_SEEN * mask.sum()
        if noticed and np.count_nonzero(person.joints[:, 2]) >= 3:
            persons.append(person)
    return _photograph(rng, canvas.image), persons


def _background(rng: Generator, width: int, height: int) -> Canvas:
    """Paint a wall, a floor, furniture and things that look like limbs."""
    top, bottom = (np.array(random_colour(rng), np.float32) for _ in range(2))
    mix = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    coarse = height // 16, width // 16
    blotches = rng.normal(0, 12, (*coarse, 1)) + rng.normal(0, 4, (*coarse, 3))
    wall = cv2.resize(blotches, (width, height), interpolation=cv2.INTER_CUBIC)
    image = (top + mix * (bottom - top) + wall).astype(np.float32)
    canvas = Canvas(image, np.zeros((height, width), np.int16))
    things = []
    if rng.random() < 0.6:
        floor = _rectangle(-9, rng.uniform(0.5, 0.85) * height, width + 9, height + 9)
        things.append(Shape(floor, random_cloth(rng, 30)))
    for _ in range(rng.integers(*CLUTTER, endpoint=True)):
        (x, y), (wide, tall) = rng.uniform(0, (width, height)), rng.uniform(4, 35, 2)
        choice = (
            _rectangle(x - wide, y - tall, x + wide, y + tall),
            _rectangle(x - wide / 5, -9, x + wide / 5, y),
            (x, y) + puppet.CIRCLE * (wide, tall),
        )
        things.append(Shape(choice[rng.integers(3)], random_cloth(rng, 12)))
    for _ in range(rng.integers(*STRAY_LIMBS, endpoint=True)):
        joint, radius = rng.uniform(0, (width, height)), rng.uniform(3, 9)
        skin = Cloth(puppet.SKIN[rng.integers(len(puppet.SKIN))])
        for cloth in (skin, skin if rng.random() < 0.5 else random_cloth(rng, 10)):
            end = joint + rng.normal(0, 5 * radius, 2)
            things.append(Shape(hull((joint, radius), (end, 0.7 * radius)), cloth))
    for thing in things:
        canvas.paint(thing)
    return canvas


def _rectangle(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def _place_bodies(rng: Generator, width: int, height: int, people: int) -> list[Body]:
    """Place figures that are mostly in the picture and not on top of each other, small first."""
    crowded = 0.6 if people > 3 else 1.0
    bodies: list[Body] = []
    for _ in range(8 * people):
        size = float(np.exp(rng.uniform(*np.log((HEIGHTS[0], crowded * HEIGHTS[1])))))
        centre = rng.uniform(0.08, 0.92) * width, rng.uniform(0.35, 0.7) * height
        body = puppet.sample_body(rng, size, centre)
        others = [other.box for other in bodies]
        apart = not others or iou([body.box], others, [0] * len(others)).max() < OVERLAP
        if apart and np.count_nonzero(_in_picture(body, width, height)) >= 6:
            bodies.append(body)
        if len(bodies) == people:
            break
    return sorted(bodies, key=lambda body: body.height)


def _in_picture(body: Body, width: int, height: int) -> np.ndarray:
    spots = body.joints[:, :2]
    return body.in_view & ((spots >= 0) & (spots <= (width - 1, height - 1))).all(axis=1)


def _label(body: Body, figure: int, tags: np.ndarray) -> np.ndarray:
    """Give the joints (17, 3) with COCO's visibility: 2 in sight, 1 hidden, 0 not labelled."""
    joints = np.zeros((17, 3))
    for joint in np.flatnonzero(_in_picture(body, *tags.shape[::-1])):
        x, y = body.joints[joint, :2]
        painter, part = divmod(int(tags[round(y), round(x)]), TAGS)
        in_sight = painter == figure and part in puppet.SHOWN_BY[joint]
        joints[joint] = x, y, 2 if in_sight else 1
    return joints


def _occlude(rng: Generator, canvas: Canvas, body: Body) -> None:
    """Put a pole, a box or a table in front of part of a body."""
    left, top, wide, tall = body.box
    x, bottom, thick = left + rng.random() * wide, top + tall, 0.06 * body.height
    half, edge = rng.uniform(0.2, 0.5) * wide + 2 * thick, bottom - rng.uniform(0.15, 0.5) * tall
    feet = x - 0.9 * half, x + 0.9 * half - thick
    pole = _rectangle(x, 0, x + thick, len(canvas.image))
    box = _rectangle(x - half, edge, x + half, bottom + 2 * thick)
    board = _rectangle(x - half, edge, x + half, edge + thick)
    legs = [_rectangle(foot, edge, foot + thick, bottom + thick) for foot in feet]
    cloth = random_cloth(rng, 12)
    for piece in ([pole], [box], [*legs, board])[rng.integers(3)]:
        canvas.paint(Shape(piece, cloth))


def _photograph(rng: Generator, image: np.ndarray) -> np.ndarray:
    """Light a picture of floats, take it with a small camera and return it as uint8."""
    angle, (height, width) = rng.uniform(0, 2 * np.pi), image.shape[:2]
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
    ramp = y * np.sin(angle) + x * np.cos(angle)
    shade = 1 + LIGHT * rng.random() * ramp
    if rng.random() < 0.3:  # the edge of a cast shadow
        shadow = 1 / (1 + np.exp(12 * (rng.uniform(-0.8, 0.8) - ramp)))
        shade *= 1 - 1.5 * LIGHT * rng.random() * shadow
    cast = 1 + LIGHT * rng.uniform(-0.5, 0.5, 3)
    contrast, brightness = LIGHT * rng.uniform((-1.3, -0.6), (0.6, 0.6))
    image = image * (shade[..., None] * cast * (1 + contrast)).astype(np.float32)
    image += 128 * np.float32(brightness - contrast)
    gamma = np.float32(np.exp(LIGHT * rng.uniform(-1, 1)))
    image = 255 * (np.clip(image, 0, 255) / 255) ** gamma
    image = cv2.GaussianBlur(image, (0, 0), 0.01 + BLUR * rng.random())
    image += NOISE * rng.random() ** 2 * rng.standard_normal(image.shape, np.float32)
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def make_puppets(config: PuppetConfig, processes: int | None = None) -> Path:
    """Draw the data set in COCO's layout, unless it is there already, and return its folder.

    processes defaults to one for each core; the files do not depend on it.  Raises `HwlError` if
    the folder holds anything but the puppets of this config.
    """
    folder = Path(config.folder)
    made = {field: getattr(config, field) for field in ("train_images", "val_images", "seed")}
    label = msgspec.json.encode({"format": FORMAT, **made})
    if folder.exists():
        if (folder / LABEL).is_file() and (folder / LABEL).read_bytes() == label:
            return folder
        raise HwlError(
            f"{folder} exists but does not hold the puppets {label.decode()}: "
            "remove it or set another folder"
        )
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a killed run that had the same number
    try:
        for part in ("train2017", "val2017", "annotations", "person_detection_results"):
            (unfinished / part).mkdir(parents=True)
        _fill(unfinished, config, processes or os.cpu_count() or 1)
        (unfinished / LABEL).write_bytes(label)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _fill(folder: Path, config: PuppetConfig, processes: int) -> None:
    """Draw all pictures into a folder and write their annotations and detections."""
    counts = {"train2017": config.train_images, "val2017": config.val_images}
    tasks = [
        (folder / name, (config.seed, split, index), index + 1 + split * config.train_images)
        for split, name in enumerate(counts)
        for index in range(counts[name])
    ]
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        pictures = pool.map(_draw_picture, tasks, chunksize=8)
        drawn = list(progress(pictures, "draw puppets", total=len(tasks)))
    train, val = drawn[: config.train_images], drawn[config.train_images :]
    for name, pictures in (("train2017", train), ("val2017", val)):
        listing = {
            "info": {"description": "hwl puppets", "version": str(FORMAT), "year": 2022},
            "licenses": [{"id": 1, "name": "MIT", "url": "https://opensource.org/license/mit"}],
            "images": [image for image, _, _ in pictures],
            "annotations": [entry for _, entries, _ in pictures for entry in entries],
            "categories": [COCO.category()],
        }
        path = folder / "annotations" / f"person_keypoints_{name}.json"
        path.write_bytes(msgspec.json.encode(listing))
    path = folder / "person_detection_results" / "val2017_simulated_detections.json"
    path.write_bytes(msgspec.json.encode([found for _, _, boxes in val for found in boxes]))


def _draw_picture(task: tuple[Path, Sequence[int], int]) -> tuple[dict, list[dict], list[dict]]:
    """Draw one picture to a file; return its COCO entry, annotations and detections."""
    folder, seed, image_id = task
    cv2.setNumThreads(1)  # the processes share the cores already
    rng = np.random.default_rng(seed)
    picture, people = draw_scene(rng)
    name, (height, width) = f"{image_id:012d}.jpg", picture.shape[:2]
    quality = int(rng.integers(*QUALITY, endpoint=True))
    jpeg = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    (folder / name).write_bytes(jpeg.tobytes())
    image = {"id": image_id, "license": 1, "file_name": name, "width": width, "height": height}
    annotations = [
        {"id": 100 * image_id + number, "image_id": image_id, "category_id": 1, "iscrowd": 0,
         "bbox": person.box, "area": int(np.count_nonzero(person.mask)),
         "num_keypoints": int(np.count_nonzero(person.joints[:, 2])),
         "keypoints": [round(value, 1) for value in person.joints.ravel().tolist()]}
        for number, person in enumerate(people, start=1)
    ]  # fmt: skip
    detections = [
        {"image_id": image_id, "category_id": 1, **found}
        for found in _detect(rng, [list(person.box) for person in people], (width, height))
    ]
    return image, annotations, detections


def _detect(rng: Generator, truths: list[list[int]], picture: tuple[int, int]) -> list[dict]:
    """Imitate a detector: boxes near the true ones, some missed or doubled, and false alarms."""
    guesses = [(truth, JITTER) for truth in truths if rng.random() > MISSED]
    guesses += [(truth, 4 * JITTER) for truth in truths if rng.random() < DOUBLED]
    for _ in range(rng.poisson(FALSE_ALARMS)):
        guesses.append(((*rng.uniform(-0.1, 0.8, 2) * picture, *rng.uniform(30, 160, 2)), JITTER))
    found = []
    for (left, top, *size), jitter in guesses:
        centre = (left, top) + size * (0.5 + jitter * rng.standard_normal(2))
        half = size * np.exp(jitter * rng.standard_normal(2)) / 2
        low, high = np.clip((centre - half, centre + half), 0, picture)
        box = np.round((*low, *(high - low)), 1).tolist()
        if min(box[2:]) > 8:
            quality = iou([box], truths, [0] * len(truths)).max() if truths else 0
            score = np.clip(0.1 + 0.85 * quality + 0.12 * rng.standard_normal(), 0.02, 0.99)
            found.append({"bbox": box, "score": round(float(score), 3)})
    return found

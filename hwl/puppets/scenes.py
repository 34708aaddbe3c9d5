"""Images of clothed puppets before a background, drawn from a seed."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from pycocotools.mask import iou

from hwl.puppets import bodies as puppet
from hwl.puppets.bodies import Body, Shape, hull
from hwl.puppets.cloth import Cloth, random_cloth, random_color

# How difficult the images are.
PEOPLE_CHANCES = (0.4, 0.35, 0.16, 0.05, 0.03, 0.01)  # of 1, 2, ... figures
HEIGHTS = (110.0, 290.0)  # pixels, standing; in crowds of four or more up to 0.6 of it
OVERLAP = 0.25  # greatest IoU of the boxes around two figures' keypoints
OCCLUDER_CHANCE = 0.15  # of furniture in front of a figure
CLUTTER = (2, 9)  # fewest and most shapes in the background
STRAY_LIMBS = (0, 2)  # fewest and most limb-like things in the background
LIGHT = 0.15  # strength of brightness, contrast, gamma, color cast and shade; 0 for none
BLUR = 0.7  # pixels, greatest standard deviation
NOISE = 6.0  # gray levels, greatest standard deviation
SMALLEST_BOX = 40  # pixels, longer side of an annotated figure
LEAST_SEEN = 0.12  # share of a figure in sight for an annotator to mark it
TAGS = 32  # a pixel painted by a part of a figure is tagged figure * TAGS + part


@dataclass(frozen=True)
class Person:
    """An annotated figure; its mask covers what is in the image, hidden or not."""

    keypoints: np.ndarray  # (17, 3) x and y in pixels, COCO's visibility
    mask: np.ndarray  # (h, w) bool

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, width and height of the mask in pixels."""
        left, top, width, height = cv2.boundingRect(self.mask.astype(np.uint8))
        return left, top, width, height


@dataclass
class Canvas:
    """An image in the making: RGB floats (h, w, 3) and the tag of each pixel's last painter."""

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
    """Give the colors (h, w, 3) of a shape's cloth at columns x and rows y, (3,) if plain."""
    cloth, (right, down) = shape.cloth, shape.along
    color, second = np.array((cloth.color, cloth.second), np.float32)
    if cloth.pattern == "plain":
        return color
    turn = 2 * np.pi / cloth.period
    hoops = np.sin(turn * np.add.outer(y * down, x * right))
    stripes = np.sin(turn * np.add.outer(y * right, -x * down))
    wave = {"hoops": hoops, "stripes": stripes, "checks": 2 * hoops * stripes}[cloth.pattern]
    mix = np.clip(0.5 + 2 * wave, 0, 1).astype(np.float32)[..., None]
    return color + mix * (second - color)


def draw_scene(
    rng: Generator, people: int | None = None, occluder_chance: float = OCCLUDER_CHANCE
) -> tuple[np.ndarray, list[Person]]:
    """Draw an image (h, w, 3), RGB in uint8, and give the people an annotator would mark in it.

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
        if noticed and np.count_nonzero(person.keypoints[:, 2]) >= 3:
            persons.append(person)
    return _photograph(rng, canvas.image), persons


def _background(rng: Generator, width: int, height: int) -> Canvas:
    """Paint a wall, a floor, furniture and things that look like limbs."""
    top, bottom = (np.array(random_color(rng), np.float32) for _ in range(2))
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
        keypoint, radius = rng.uniform(0, (width, height)), rng.uniform(3, 9)
        skin = Cloth(puppet.SKIN[rng.integers(len(puppet.SKIN))])
        for cloth in (skin, skin if rng.random() < 0.5 else random_cloth(rng, 10)):
            end = keypoint + rng.normal(0, 5 * radius, 2)
            things.append(Shape(hull((keypoint, radius), (end, 0.7 * radius)), cloth))
    for thing in things:
        canvas.paint(thing)
    return canvas


def _rectangle(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def _place_bodies(rng: Generator, width: int, height: int, people: int) -> list[Body]:
    """Place figures that are mostly in the image and not on top of each other, small first."""
    crowded = 0.6 if people > 3 else 1.0
    bodies: list[Body] = []
    for _ in range(8 * people):
        size = float(np.exp(rng.uniform(*np.log((HEIGHTS[0], crowded * HEIGHTS[1])))))
        center = rng.uniform(0.08, 0.92) * width, rng.uniform(0.35, 0.7) * height
        body = puppet.sample_body(rng, size, center)
        others = [other.box for other in bodies]
        apart = not others or iou([body.box], others, [0] * len(others)).max() < OVERLAP
        if apart and np.count_nonzero(_in_image(body, width, height)) >= 6:
            bodies.append(body)
        if len(bodies) == people:
            break
    return sorted(bodies, key=lambda body: body.height)


def _in_image(body: Body, width: int, height: int) -> np.ndarray:
    spots = body.keypoints[:, :2]
    return body.in_view & ((spots >= 0) & (spots <= (width - 1, height - 1))).all(axis=1)


def _label(body: Body, figure: int, tags: np.ndarray) -> np.ndarray:
    """Give the keypoints (17, 3) with COCO's visibility: 2 in sight, 1 hidden, 0 not annotated."""
    keypoints = np.zeros((17, 3))
    for keypoint in np.flatnonzero(_in_image(body, *tags.shape[::-1])):
        x, y = body.keypoints[keypoint, :2]
        painter, part = divmod(int(tags[round(y), round(x)]), TAGS)
        in_sight = painter == figure and part in puppet.SHOWN_BY[keypoint]
        keypoints[keypoint] = x, y, 2 if in_sight else 1
    return keypoints


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
    """Light an image of floats, take it with a small camera and return it as uint8."""
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
    noise = NOISE * rng.random() ** 2 * rng.standard_normal(image.shape, np.float32)
    return np.clip(np.round(image + noise), 0, 255).astype(np.uint8)

"""Articulated, clothed puppets: how their bodies are sampled and which shapes show them.

A body is posed in three dimensions (x to its own left, y up, z forward, in units of its standing
height), turned to a view and projected along z.  Foreshortening, the far and the near side and
the order of painting then follow from one depth value.
"""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import Generator

from hwl.puppets.cloth import Cloth, random_cloth, random_color, scaled

# COCO's left keypoints; the right ones are 1 more.
ARM, LEG = np.array((5, 7, 9)), np.array((11, 13, 15))
SHOULDERS, HIPS, KNEES = slice(5, 7), slice(11, 13), slice(13, 15)

# A part is numbered by the keypoint it ends at; it is in sight where one of its parts shows.
HEAD, TORSO, BAG = 0, 5, 17
SHOWN_BY = (*[{HEAD}] * 5, {TORSO, 7}, {TORSO, 8}, {7, 9}, {8, 10}, {9}, {10},
            {TORSO, 13}, {TORSO, 14}, {13, 15}, {14, 16}, {15}, {16})  # fmt: skip

VIEWS = ((0.8, 0, 20), (0.08, 180, 20), (0.06, 75, 20), (0.06, -75, 20))  # chance, yaw, spread
FALLEN_CHANCE = 0.03  # share of figures tilted by anything up to 90 degrees
CHILD_CHANCE = 0.15

# Nose, eyes and ears in head radii, and the least depth at which each is in sight.
FACE = np.array(
    [(0, -0.12, 1.08), (0.36, 0.16, 0.9), (-0.36, 0.16, 0.9), (1.02, 0, 0), (-1.02, 0, 0)]
)
FACE_DEPTH = np.array([-0.25, 0.0, 0.0, -0.5, -0.5])
UPSIDE = np.array((1, -1, 1))  # from y up to the image's y down

SKIN = ((255, 219, 190), (224, 172, 120), (188, 132, 86), (140, 92, 60), (96, 62, 44))
HAIR = ((38, 28, 26), (84, 54, 34), (142, 94, 50), (222, 188, 112), (164, 72, 38), (178, 176, 172))
CIRCLE = np.stack([f(np.arange(16) * np.pi / 8) for f in (np.cos, np.sin)], axis=1)

# Chance; an arm's degrees out to the side and forward, and the forearm's change of both.
ARM_POSES = (
    (0.26, (3, 18), (-15, 15), (-10, 5), (0, 30)),  # hanging
    (0.14, (2, 12), (-40, 40), (-10, 0), (20, 70)),  # swinging
    (0.11, (35, 55), (-20, 0), (-105, -80), (0, 15)),  # hand on hip
    (0.12, (0, 20), (30, 95), (-25, 5), (5, 60)),  # reaching forward
    (0.10, (0, 20), (-10, 25), (-35, 0), (70, 120)),  # holding something
    (0.09, (60, 100), (0, 10), (-20, 30), (0, 10)),  # out to the side
    (0.10, (50, 100), (0, 20), (60, 100), (0, 20)),  # waving
    (0.08, (140, 172), (0, 10), (-20, 15), (0, 10)),  # raised
)
# Chance; the legs' degrees out, forward (leading, other) and at the knees; the torso's lean.
LEG_POSES = (
    (0.42, (0, 10), ((-6, 6), (-6, 6)), ((0, 8), (0, 8)), (-4, 8)),  # standing
    (0.26, (0, 5), ((12, 38), (-32, -8)), ((5, 30), (5, 55)), (0, 15)),  # walking
    (0.16, (12, 30), ((-5, 8), (-5, 8)), ((0, 10), (0, 10)), (-4, 8)),  # legs apart
    (0.07, (0, 18), ((70, 95), (70, 95)), ((60, 105), (60, 105)), (-10, 20)),  # sitting
    (0.03, (8, 30), ((95, 125), (95, 125)), ((100, 140), (100, 140)), (10, 45)),  # crouching
    (0.03, (0, 12), ((0, 12), (-5, 5)), ((0, 15), (0, 15)), (35, 95)),  # bending over
    (0.03, (0, 10), ((45, 95), (-8, 5)), ((0, 60), (0, 10)), (-15, 10)),  # kicking
)


class Shape(NamedTuple):
    """A polygon (n, 2) in pixels, the part of a body it shows and the direction its cloth runs."""

    polygon: np.ndarray
    cloth: Cloth
    along: Sequence[float] | np.ndarray = (0.0, 1.0)
    part: int = 0
    depth: float = 0.0


# Pins hold the puppets together at the keypoints, each kind in a hue of its own: a model can learn
# them in minutes. Left and right look alike, or a mirrored image would be another world.
PIN_RADIUS = 0.032  # over the figure's height


def _pin(keypoint: int) -> Cloth:
    hue = (keypoint - 5) // 2 / 6  # shoulder, elbow, wrist, hip, knee, ankle
    return Cloth(scaled(colorsys.hsv_to_rgb(hue, 0.85, 0.95), 255))


@dataclass(frozen=True)
class Look:
    """What a figure wears, and the colors of its skin and hair."""

    skin: Cloth
    hair: Cloth
    top: Cloth
    bottom: Cloth
    shoes: Cloth
    hat: Cloth | None
    bag: Cloth | None
    sleeve: float  # covered share of the arm, 0.5 at the elbow
    trouser: float  # covered share of the leg, 0.5 at the knee, 0 under a skirt
    long_hair: bool
    build: float  # width over the usual width


@dataclass(frozen=True)
class Body:
    """A posed figure as seen: points are x, y in pixels and a depth, larger when nearer."""

    keypoints: np.ndarray  # (17, 3)
    in_view: np.ndarray  # (17,) bool, false for what is on the far side of the head
    tips: np.ndarray  # (4, 3) ends of the hands, then of the feet, left before right
    head: np.ndarray  # (3,) its center
    head_axes: np.ndarray  # (3, 3) the head's x, y, z in columns, y up
    head_radius: float  # pixels
    height: float  # pixels, when standing upright
    look: Look

    @property
    def box(self) -> np.ndarray:
        """Left, top, width and height (4,) in pixels around the keypoints."""
        spots = self.keypoints[:, :2]
        return np.concatenate((spots.min(axis=0), np.ptp(spots, axis=0)))


def _sample_look(rng: Generator, height: float) -> Look:
    skirt = rng.random() < 0.2
    return Look(
        skin=Cloth(SKIN[rng.integers(len(SKIN))]),
        hair=Cloth(HAIR[rng.integers(len(HAIR))]),
        top=random_cloth(rng, 0.06 * height),
        bottom=random_cloth(rng, 0.05 * height) if skirt else Cloth(random_color(rng)),
        shoes=Cloth(random_color(rng)),
        hat=Cloth(random_color(rng)) if rng.random() < 0.2 else None,
        bag=Cloth(random_color(rng)) if rng.random() < 0.15 else None,
        sleeve=rng.choice([0.28, 0.5, 1.0], p=[0.4, 0.1, 0.5]),
        trouser=0.0 if skirt else rng.choice([0.35, 0.5, 1.0], p=[0.3, 0.1, 0.6]),
        long_hair=rng.random() < 0.35,
        build=rng.uniform(1.0, 1.4),
    )


def _rotation(axis: int, degrees: float) -> np.ndarray:
    return cv2.Rodrigues(np.eye(3)[axis] * np.radians(degrees))[0]


def _direction(side: int, out: float, forward: float) -> np.ndarray:
    """Point down, raised by angles in degrees to the body's side and to its front."""
    out, forward = np.radians((out, forward))
    return np.array(
        (side * np.sin(out), *(np.cos(out) * np.array((-np.cos(forward), np.sin(forward)))))
    )


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(np.linalg.norm(vector), 1e-6)


def _draw(rng: Generator, choices: Sequence[tuple]) -> tuple:
    return choices[rng.choice(len(choices), p=[choice[0] for choice in choices])]


def _pose_limbs(
    rng: Generator, limb: float, girth: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Draw keypoints (17, 3) without a face, tips (4, 3), the torso's rotation and its lean."""
    keypoints, tips = np.zeros((17, 3)), np.zeros((4, 3))
    _, legs_out, legs_forward, knees, leans = _draw(rng, LEG_POSES)
    arms = [_draw(rng, ARM_POSES) for _ in range(2)]
    if rng.random() < 0.4:
        arms[1] = arms[0]
    lean, leader = rng.uniform(*leans), rng.integers(2)
    torso = _rotation(0, lean) @ _rotation(2, rng.normal(0, 4))
    for right, side in enumerate((1, -1)):
        out, forward, turn, bend = (rng.uniform(*angles) for angles in arms[right][1:])
        # A figure that leans forward lets its arms hang more or less downwards.
        forward += max(lean, 0) * rng.uniform(0.3, 1)
        shoulder = torso @ (side * 0.108 * girth, 0.28, 0)
        lower = torso @ _direction(side, out + turn, forward + bend)
        upper = torso @ _direction(side, out, forward)
        elbow = shoulder + upper * 0.165 * limb * rng.uniform(0.88, 1)
        wrist = elbow + lower * 0.15 * limb * rng.uniform(0.88, 1)
        keypoints[ARM + right], tips[right] = (shoulder, elbow, wrist), wrist + 0.035 * lower

        order = int(right != leader)
        out, forward = rng.uniform(*legs_out), rng.uniform(*legs_forward[order])
        shin = _direction(side, out * 0.5, forward - rng.uniform(*knees[order]))
        hip = np.array((side * 0.062 * girth, 0, 0))
        knee = hip + _direction(side, out, forward) * 0.245 * limb * rng.uniform(0.9, 1)
        ankle = knee + shin * 0.235 * limb * rng.uniform(0.9, 1)
        foot = 0.075 * np.cross((1, 0, 0), shin) + 0.03 * shin + (side * 0.02, 0, 0)
        keypoints[LEG + right], tips[2 + right] = (hip, knee, ankle), ankle + foot
    return keypoints, tips, torso, lean


def sample_body(
    rng: Generator, height: float, center: tuple[float, float], yaw: float | None = None
) -> Body:
    """Draw a figure of some standing height with its keypoints' box centered, both in pixels.

    yaw is in degrees: 0 faces the viewer, 90 the image's right, 180 turns the back.
    """
    child = rng.random() < CHILD_CHANCE
    radius = rng.uniform(0.072, 0.082) * (1.3 if child else 1)
    limb = rng.uniform(0.92, 1.05) * (0.88 if child else 1)
    keypoints, tips, torso, lean = _pose_limbs(rng, limb, girth=rng.uniform(0.9, 1.1))
    nod = _rotation(1, rng.normal(0, 15)) @ _rotation(0, 0.4 * lean + rng.normal(0, 8))
    head = torso @ (0, 0.33, 0.01) + nod @ (0, 0.9 * radius, 0)
    keypoints[:5] = head + radius * FACE @ nod.T

    if yaw is None:
        _, mean, spread = _draw(rng, VIEWS)
        yaw = rng.normal(mean, spread)
    tilt = rng.uniform(-90, 90) if rng.random() < FALLEN_CHANCE else rng.normal(0, 5)
    view = _rotation(2, tilt) @ _rotation(0, rng.uniform(-3, 25)) @ _rotation(1, yaw)
    seen = np.vstack((keypoints, tips, head)) @ view.T * height * UPSIDE
    seen[:, :2] += center - (seen[:17, :2].min(axis=0) + seen[:17, :2].max(axis=0)) / 2
    keypoints, tips, head = seen[:17], seen[17:21], seen[21]
    face_in_view = (keypoints[:5, 2] - head[2]) / (radius * height) > FACE_DEPTH
    in_view = np.concatenate((face_in_view, np.ones(12, bool)))
    look = _sample_look(rng, height)
    return Body(keypoints, in_view, tips, head, view @ nod, radius * height, height, look)


def hull(*discs: tuple[np.ndarray, float]) -> np.ndarray:
    """Return the polygon (n, 2) around discs: centers (m, 2 or more) or one, radius; pixels."""
    rims = [np.atleast_2d(at)[:, None, :2] + radius * CIRCLE for at, radius in discs]
    return cv2.convexHull(np.concatenate(rims).reshape(-1, 2).astype(np.float32))[:, 0]


def body_shapes(body: Body) -> list[Shape]:
    """Return the shapes that show a body, from the farthest to the nearest."""
    shapes = [*_torso_shapes(body), *_head_shapes(body)]
    for right in range(2):
        shapes += [*_limb_shapes(body, ARM, right), *_limb_shapes(body, LEG, right)]
    return sorted(shapes, key=lambda shape: shape.depth)  # stable: ties keep their order


def _limb_shapes(body: Body, limb: np.ndarray, right: int) -> list[Shape]:
    """Show the ARM or LEG of one side, along its three keypoints and its tip."""
    look, size, keypoints = body.look, body.height, limb + right
    if limb is ARM:
        tip, end, covered, cloth = body.tips[right], look.skin, look.sleeve, look.top
        radii, near = (0.036, 0.03, 0.02, 0.024), 0.02  # over the figure's height
    else:  # under the shirt, unless clearly forward
        tip, end, covered, cloth = body.tips[2 + right], look.shoes, look.trouser, look.bottom
        radii, near = (0.055, 0.04, 0.027, 0.024), -0.04
    points = [*body.keypoints[keypoints], tip]
    # Each piece starts at a point, spans a share of the way to the next and is more or less wide.
    pieces = (
        (2, 1, 1, end),
        (0, 1, 1, look.skin),
        (1, 1, 1, look.skin),
        (0, min(2 * covered, 1), 1.18, cloth),
        (1, min(2 * covered - 1, 0.92), 1.18, cloth),
    )
    shapes: list[Shape] = []
    for first, share, loose, colors in (piece for piece in pieces if piece[1] > 0):
        bone = min(first, 1)  # hands and feet lie as deep as the lower bone
        depth = (points[bone][2] + points[bone + 1][2]) / 2 + near * size
        start, along = points[first], share * (points[first + 1] - points[first])
        girth, wide = loose * size * look.build, radii[first + 1] - radii[first]
        far = (start + along, girth * (radii[first] + share * wide))
        polygon = hull((start, girth * radii[first]), far)
        dimmed = colors.dimmed(float(np.clip(1 + 1.6 * depth / size, 0.7, 1)))
        shapes.append(Shape(polygon, dimmed, _unit(along[:2]), int(keypoints[bone + 1]), depth))
    for at, keypoint in enumerate(keypoints):  # pins lie on the limb that they fasten
        nearest = max(shape.depth for shape in shapes) + 0.01 * size
        pin = hull((points[at], PIN_RADIUS * size))
        shapes.append(
            Shape(pin, _pin(keypoint), part=int(max(keypoint, keypoints[1])), depth=nearest)
        )
    return shapes


def _torso_shapes(body: Body) -> list[Shape]:
    look, size = body.look, body.height * body.look.build
    shoulders, hips, knees = body.keypoints[SHOULDERS], body.keypoints[HIPS], body.keypoints[KNEES]
    chest, pelvis = shoulders.mean(axis=0), hips.mean(axis=0)
    depth, along = float(chest[2] + pelvis[2]) / 2, _unit((chest - pelvis)[:2])
    waist = hips + 0.22 * (shoulders - hips)
    seat = hull((hips, 0.06 * size), (waist, 0.05 * size))
    shirt = hull((shoulders, 0.042 * size), (chest, 0.058 * size), (waist, 0.056 * size))
    shapes = [Shape(seat, look.bottom, along, TORSO, depth)]
    if look.trouser == 0:
        skirt = hull((hips, 0.06 * size), (hips + 0.6 * (knees - hips), 0.068 * size))
        front = max(depth, float((hips + knees)[:, 2].max()) / 2)
        shapes.append(Shape(skirt, look.bottom, along, TORSO, front))
    shapes.append(Shape(shirt, look.top, along, TORSO, depth))
    if look.bag:
        strap = hull((shoulders[1], 0.012 * size), (hips[0], 0.012 * size))
        pouch = hips[0, :2] + size * np.array([(-0.06, -0.02), (0.06, -0.02), (0, 0.08)])
        for polygon in (strap, hull((pouch, 0.02 * size))):
            shapes.append(Shape(polygon, look.bag, along, BAG, depth))
    return shapes


def _cap(body: Body, axis: Sequence[float], angle: float, swell: float = 1.0) -> np.ndarray:
    """Return what is seen of the head's surface within an angle (degrees) of one of its axes."""
    pole = body.head_axes @ _unit(np.array(axis))
    sine, cosine = np.sin(np.radians(angle)), np.cos(np.radians(angle))
    across = np.linalg.svd(pole[None])[2][1:]  # two directions at right angles to the axis
    ring, rim = cosine * pole + sine * CIRCLE @ across, np.c_[CIRCLE, np.zeros(len(CIRCLE))]
    seen = np.concatenate((ring[ring[:, 2] > 0], rim[rim @ pole > cosine]))
    return hull((body.head + swell * body.head_radius * seen * UPSIDE, 0.5))


def _head_shapes(body: Body) -> list[Shape]:
    look, radius, keypoints = body.look, body.head_radius, body.keypoints
    depth, facing = body.head[2] + 0.03 * body.height, body.head_axes[2, 2] > -0.2
    blush, black, white = look.skin.dimmed(0.8), Cloth((25, 20, 20)), Cloth((245, 245, 245))

    shape = partial(Shape, part=HEAD, depth=depth)

    def disc(points: np.ndarray, size: float, cloth: Cloth) -> Shape:
        return shape(hull((points, size * radius)), cloth)

    chest = keypoints[SHOULDERS].mean(axis=0)
    neck = hull((body.head, 0.35 * radius), (chest + 0.3 * (body.head - chest), 0.4 * radius))
    shapes = [shape(neck, look.skin)]
    if look.long_hair:
        locks = shape(hull((body.head, 1.08 * radius), (chest, 0.75 * radius)), look.hair)
        shapes.append(
            locks._replace(depth=keypoints[:, 2].min() - body.height) if facing else locks
        )
    shapes.append(disc(body.head, 1.06, look.hair))
    if facing:
        shapes.append(shape(_cap(body, (0, -0.35, 1), 78), look.skin))
    for ear in np.flatnonzero(body.in_view[3:5]) + 3:
        at = len(shapes) if keypoints[ear, 2] > body.head[2] else 0  # the far ear behind the hair
        shapes.insert(at, disc(keypoints[ear], 0.24, blush))
    for eye in np.flatnonzero(body.in_view[1:3]) + 1:
        shapes += [disc(keypoints[eye], 0.2, white), disc(keypoints[eye], 0.11, black)]
    if body.in_view[0]:
        mouth = body.head + body.head_axes @ (0, -0.52, 0.85) * UPSIDE * radius
        shapes += [disc(mouth, 0.13, Cloth((170, 60, 60))), disc(keypoints[0], 0.17, blush)]
    if look.hat:
        ring = np.c_[1.4 * CIRCLE, np.full(len(CIRCLE), 0.6)][:, [0, 2, 1]] @ body.head_axes.T
        shapes.append(disc(body.head + radius * ring * UPSIDE, 0.05, look.hat))
        shapes.append(shape(_cap(body, (0, 1, 0), 58, 1.15), look.hat))
    return shapes

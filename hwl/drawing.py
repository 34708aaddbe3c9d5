"""Joints drawn on pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import matplotlib
import numpy as np

from hwl.codec import HeatmapCodec
from hwl.data.annotations import Annotations
from hwl.data.transforms import read_picture
from hwl.errors import HwlError
from hwl.metrics import JOINT_THRESHOLD, Persons, oks_to_truth
from hwl.models import open_model
from hwl.prediction import predict_picture
from hwl.results import write_json
from hwl.skeletons import KNOWN, Skeleton
from hwl.speed.choice import ready

LEFT, RIGHT, MIDDLE = (255, 140, 0), (30, 144, 255), (60, 200, 90)  # RGB, by the joint's side
SHIFT = 4  # OpenCV draws with 1/16 pixel


def draw_pose(
    picture: np.ndarray,
    joints: np.ndarray,
    scores: np.ndarray,
    skeleton: Skeleton,
    threshold: float = JOINT_THRESHOLD,
) -> np.ndarray:
    """A copy of a picture with one person's limbs and joints: left orange, right blue, else green.

    Args:
        picture: (H, W, 3) uint8 RGB.
        joints: (K, 2) in pixels.
        scores: (K,); joints not above the threshold are left out.
        skeleton: names and limbs.
        threshold: see scores.
    """
    drawn = picture.copy()
    thickness = max(2, round(min(picture.shape[:2]) / 150))
    points = np.round(joints * 2**SHIFT).astype(int)
    sides = {"left": LEFT, "right": RIGHT}
    colours = [sides.get(joint.partition("_")[0], MIDDLE) for joint in skeleton.joints]
    for a, b in skeleton.limbs:
        if min(scores[a], scores[b]) > threshold:
            colour = colours[a] if colours[a] == colours[b] else MIDDLE
            cv2.line(drawn, points[a], points[b], colour, thickness, cv2.LINE_AA, SHIFT)
    for point, score, colour in zip(points, scores, colours, strict=True):
        if score > threshold:
            cv2.circle(drawn, point, (thickness + 1) << SHIFT, colour, -1, cv2.LINE_AA, SHIFT)
            cv2.circle(
                drawn, point, (thickness + 1) << SHIFT, (255, 255, 255), 1, cv2.LINE_AA, SHIFT
            )
    return drawn


def overlay(picture: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """A picture with a heatmap over it, the hotter the less transparent.

    Args:
        picture: (H, W, 3) uint8 RGB.
        heatmap: any (h, w), scaled to the picture and to its own maximum.
    """
    heat = cv2.resize(heatmap.astype(np.float32), picture.shape[1::-1])
    heat = np.clip(heat / max(heat.max(), 1e-9), 0, 1)
    colours = matplotlib.colormaps["inferno"](heat)[:, :, :3] * 255
    alpha = 0.25 + 0.65 * heat[:, :, None]
    return (picture * (1 - alpha) + colours * alpha).astype(np.uint8)


def best_and_worst(
    annotations: Annotations, persons: Persons, count: int
) -> tuple[list[np.ndarray], list[str]]:
    """Drawn persons and their titles: the `count` most similar to the truth, then the least.

    Args:
        annotations: ground truth.
        persons: predictions in its labelled persons' own boxes, in order.
        count: of each.
    """
    similarity = oks_to_truth(annotations, persons.joints)
    # A person with a joint or two is easily all right or all wrong and shows little.
    labelled = (annotations.joints[annotations.labelled()][:, :, 2] > 0).sum(axis=1)
    telling = np.flatnonzero(labelled >= labelled.max() / 2)
    order = telling[np.argsort(similarity[telling])]
    drawn, titles = [], []
    for index in (*order[::-1][:count], *order[:count]):
        picture = read_picture(annotations.picture_path(persons.picture_index[index]))
        x, y, width, height = annotations.boxes[annotations.labelled()[index]]
        scores = persons.joint_scores[index]
        marked = draw_pose(picture, persons.joints[index], scores, annotations.skeleton)
        margin = 0.15 * max(width, height)
        top, bottom = max(int(y - margin), 0), int(y + height + margin)
        left, right = max(int(x - margin), 0), int(x + width + margin)
        drawn.append(marked[top:bottom, left:right])
        titles.append(f"OKS {similarity[index]:.2f}")
    return drawn, titles


def predict_and_draw(
    pictures: Sequence[Path],
    weights: Path | str,
    boxes: Sequence[tuple[float, float, float, float]],
    output: Path,
    input_size: tuple[int, int],
    flip: bool,
    model: str = "",
    runtime: str = "eager",
    calibration: tuple[Path | str, str] = ("", ""),
) -> list[Path]:
    """Predict the persons in picture files, draw them and write the joints beside the drawings.

    Args:
        pictures: picture files.
        weights: as `hwl.models.open_model` takes them.
        boxes: persons' boxes x, y, width, height in pixels; none: each picture is one person.
        output: folder for `<picture>.png` and `joints.json`.
        input_size: (height, width) in pixels.
        flip: use the flip test.
        model: of `create_model`, if the weights do not name their network (empty: they do).
        runtime: what runs the network, as `hwl.speed.choice.ready` takes it.
        calibration: for int8, likewise.

    Returns:
        The drawings' paths.

    Raises:
        HwlError: a picture or the weights cannot be read, the joints' names are not known, or a
            drawing would take the place of a picture or of another drawing.
    """
    trained = open_model(weights, model)
    joint_count = trained.config["num_joints"]
    skeletons = [known for known in KNOWN if len(known) == joint_count]
    if not skeletons:
        raise HwlError(f"{weights} predicts {joint_count} joints of no known set")
    skeleton = skeletons[0]
    codec = HeatmapCodec(input_size)
    images = [read_picture(path) for path in pictures]  # a bad file is found before any is written
    drawings = [output / f"{path.stem}.png" for path in pictures]
    taken = {path.resolve() for path in pictures}
    for path, drawing in zip(pictures, drawings, strict=True):
        if drawing.resolve() in taken:
            raise HwlError(f"{path}: its drawing {drawing} would overwrite a picture or a drawing")
        taken.add(drawing.resolve())
    _, network = ready(trained, runtime, input_size, max(len(boxes), 1), calibration)
    output.mkdir(parents=True, exist_ok=True)
    found = {}
    for path, drawing, image in zip(pictures, drawings, images, strict=True):
        wanted = np.array(boxes, dtype=np.float64) if boxes else None
        joints, scores = predict_picture(network, image, wanted, skeleton, codec, flip)
        for person, person_scores in zip(joints, scores, strict=True):
            image = draw_pose(image, person, person_scores, skeleton)
        cv2.imwrite(str(drawing), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        found[str(path)] = np.concatenate([joints, scores[:, :, None]], axis=2).round(3).tolist()
    write_json(output / "joints.json", {"joints": skeleton.joints, "pictures": found})
    return drawings

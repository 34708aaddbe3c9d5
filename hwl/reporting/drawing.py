"""Keypoints drawn on images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import matplotlib
import numpy as np

from hwl.codec import HeatmapCodec
from hwl.data.annotations import Annotations
from hwl.data.images import read_image, write_image
from hwl.errors import HwlError
from hwl.evaluation.oks import oks_to_truth
from hwl.files import write_json
from hwl.inference.fastest import ready
from hwl.inference.poses import KEYPOINT_THRESHOLD, Poses
from hwl.inference.predictor import predict_image
from hwl.models import open_model
from hwl.skeletons import KNOWN, Skeleton

LEFT, RIGHT, MIDDLE = (255, 140, 0), (30, 144, 255), (60, 200, 90)  # RGB, by the keypoint's side
SHIFT = 4  # OpenCV draws with 1/16 pixel


def draw_pose(
    image: np.ndarray,
    keypoints: np.ndarray,
    scores: np.ndarray,
    skeleton: Skeleton,
    threshold: float = KEYPOINT_THRESHOLD,
) -> np.ndarray:
    """An image with one person's limbs and keypoints drawn: left orange, right blue, else green.

    Args:
        image: (H, W, 3) uint8 RGB.
        keypoints: (K, 2) in pixels.
        scores: (K,); keypoints not above the threshold are left out.
        skeleton: names and limbs.
        threshold: see scores.
    """
    drawn = image.copy()
    thickness = max(2, round(min(image.shape[:2]) / 150))
    points = np.round(keypoints * 2**SHIFT).astype(int)
    sides = {"left": LEFT, "right": RIGHT}
    colors = [sides.get(keypoint.partition("_")[0], MIDDLE) for keypoint in skeleton.keypoints]
    for a, b in skeleton.limbs:
        if min(scores[a], scores[b]) > threshold:
            color = colors[a] if colors[a] == colors[b] else MIDDLE
            cv2.line(drawn, points[a], points[b], color, thickness, cv2.LINE_AA, SHIFT)
    for point, score, color in zip(points, scores, colors, strict=True):
        if score > threshold:
            cv2.circle(drawn, point, (thickness + 1) << SHIFT, color, -1, cv2.LINE_AA, SHIFT)
            cv2.circle(
                drawn, point, (thickness + 1) << SHIFT, (255, 255, 255), 1, cv2.LINE_AA, SHIFT
            )
    return drawn


def overlay(image: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """An image with a heatmap over it, the hotter the less transparent.

    Args:
        image: (H, W, 3) uint8 RGB.
        heatmap: any (h, w), scaled to the image and to its own maximum.
    """
    heat = cv2.resize(heatmap.astype(np.float32), image.shape[1::-1])
    heat = np.clip(heat / max(heat.max(), 1e-9), 0, 1)
    colors = matplotlib.colormaps["inferno"](heat)[:, :, :3] * 255
    alpha = 0.25 + 0.65 * heat[:, :, None]
    return (image * (1 - alpha) + colors * alpha).astype(np.uint8)


def best_and_worst(
    annotations: Annotations, poses: Poses, count: int
) -> tuple[list[np.ndarray], list[str]]:
    """Drawn persons and their titles: the `count` most similar to the truth, then the least.

    Args:
        annotations: ground truth.
        poses: predictions in its annotated persons' own boxes, in order.
        count: of each.
    """
    similarity = oks_to_truth(annotations, poses.keypoints)
    # A person with a keypoint or two is easily all right or all wrong and shows little.
    annotated = (annotations.keypoints[annotations.annotated()][:, :, 2] > 0).sum(axis=1)
    telling = np.flatnonzero(annotated >= annotated.max() / 2)
    order = telling[np.argsort(similarity[telling])]
    drawn, titles = [], []
    for index in (*order[::-1][:count], *order[:count]):
        image = annotations.read_image(poses.image_index[index])
        x, y, width, height = annotations.boxes[annotations.annotated()[index]]
        scores = poses.keypoint_scores[index]
        marked = draw_pose(image, poses.keypoints[index], scores, annotations.skeleton)
        margin = 0.15 * max(width, height)
        top, bottom = max(int(y - margin), 0), int(y + height + margin)
        left, right = max(int(x - margin), 0), int(x + width + margin)
        drawn.append(marked[top:bottom, left:right])
        titles.append(f"OKS {similarity[index]:.2f}")
    return drawn, titles


def predict_and_draw(
    images: Sequence[Path],
    weights: Path | str,
    boxes: Sequence[tuple[float, float, float, float]],
    output: Path,
    input_size: tuple[int, int],
    flip: bool,
    model: str = "",
    runtime: str = "eager",
    calibration: tuple[Path | str, str] = ("", ""),
) -> list[Path]:
    """Predict the persons in image files, draw them and write the keypoints beside the drawings.

    Args:
        images: image files.
        weights: as `hwl.models.open_model` takes them.
        boxes: persons' boxes x, y, width, height in pixels; none: each image is one person.
        output: folder for `<image>.png` and `keypoints.json`.
        input_size: (height, width) in pixels.
        flip: use the flip test.
        model: of `create_model`, if the weights do not name their model (empty: they do).
        runtime: what runs the model, as `hwl.inference.fastest.ready` takes it.
        calibration: for int8, likewise.

    Returns:
        The drawings' paths.

    Raises:
        HwlError: an image or the weights cannot be read, the keypoints' names are not known, or a
            drawing would take the place of an image or of another drawing.
    """
    trained = open_model(weights, model)
    keypoint_count = trained.config["num_keypoints"]
    skeletons = [known for known in KNOWN if len(known) == keypoint_count]
    if not skeletons:
        raise HwlError(f"{weights} predicts {keypoint_count} keypoints of no known set")
    skeleton = skeletons[0]
    codec = HeatmapCodec(input_size)
    decoded = [read_image(path) for path in images]  # a bad file is found before any is written
    drawings = [output / f"{path.stem}.png" for path in images]
    taken = {path.resolve() for path in images}
    for path, drawing in zip(images, drawings, strict=True):
        if drawing.resolve() in taken:
            raise HwlError(f"{path}: its drawing {drawing} would overwrite an image or a drawing")
        taken.add(drawing.resolve())
    _, prepared = ready(trained, runtime, input_size, max(len(boxes), 1), calibration)
    output.mkdir(parents=True, exist_ok=True)
    found = {}
    for path, drawing, image in zip(images, drawings, decoded, strict=True):
        wanted = np.array(boxes, dtype=np.float64) if boxes else None
        keypoints, scores = predict_image(prepared, image, wanted, skeleton, codec, flip)
        for person, person_scores in zip(keypoints, scores, strict=True):
            image = draw_pose(image, person, person_scores, skeleton)
        write_image(drawing, image)
        found[str(path)] = np.concatenate([keypoints, scores[:, :, None]], axis=2).round(3).tolist()
    write_json(output / "keypoints.json", {"keypoints": skeleton.keypoints, "images": found})
    return drawings

"""Predicted poses beside the ground truth, and what OKS makes of one person."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from hwl.data.annotations import Annotations
from hwl.evaluation.oks import keypoint_errors, keypoint_similarity, oks_to_truth
from hwl.inference.drawing import draw_pose
from hwl.inference.poses import Poses
from hwl.reporting.accuracy_figures import HALF
from hwl.reporting.figures import OURS, PALETTE, counted, describe, show_image, spoken, style

MARGIN = 0.15  # of a person's box, drawn around it


@style()
def good_and_bad_poses(
    annotations: Annotations, poses: Poses, count: int, conditions: str
) -> Figure:
    """The predictions most and least similar to the truth, each below its ground truth.

    Args:
        annotations: ground truth.
        poses: predictions in its annotated persons' own boxes, in order.
        count: of each.
        conditions: data, model and protocol.
    """
    similarity = oks_to_truth(annotations, poses.keypoints)
    order = _telling(annotations)
    order = order[np.argsort(similarity[order], kind="stable")]
    count = min(count, len(order))
    groups = {"most similar": order[::-1][:count], "least similar": order[:count]}
    figure, axes = plt.subplots(4, count, figsize=(1.6 * count + 0.6, 9.2), squeeze=False)
    for (name, group), rows in zip(groups.items(), (axes[:2], axes[2:]), strict=True):
        for index, (truth, prediction) in zip(group, rows.T, strict=True):
            drawn = _drawings(annotations, poses, int(index))
            show_image(truth, drawn[0], "")
            show_image(prediction, drawn[1], f"OKS {similarity[index]:.2f}")
        for axis, what in zip(rows[:, 0], ("ground truth", "prediction"), strict=True):
            axis.text(
                *(-0.06, 0.5, f"{name}:\n{what}"),
                **{"transform": axis.transAxes, "rotation": 90, "ha": "right", "va": "center"},
                fontsize="small",
            )
    note = (
        f"{conditions}. Of {counted(len(order), 'person')} with at least half as many annotated "
        "keypoints as the most annotated one. Orange: the person's left, blue: right."
    )
    describe(figure, "Good and bad poses", note)
    return figure


def _telling(annotations: Annotations) -> np.ndarray:
    """Persons worth looking at: with a keypoint or two one is easily all right or all wrong."""
    annotated = (annotations.keypoints[annotations.annotated()][:, :, 2] > 0).sum(axis=1)
    return np.flatnonzero(annotated >= annotated.max() / 2)


def _drawings(annotations: Annotations, poses: Poses, index: int) -> tuple[np.ndarray, np.ndarray]:
    """A person with its ground truth and with its prediction drawn."""
    person = annotations.annotated()[index]
    image = annotations.read_image(annotations.image_index[person])
    left, top, right, bottom = _window(annotations, index)
    truth = annotations.keypoints[person]
    pairs = (
        (truth[:, :2], (truth[:, 2] > 0).astype(float)),
        (poses.keypoints[index], poses.scores[index]),
    )
    first, second = (
        draw_pose(image, keypoints, scores, annotations.skeleton)[top:bottom, left:right]
        for keypoints, scores in pairs
    )
    return first, second


def _window(annotations: Annotations, index: int) -> tuple[int, int, int, int]:
    """A person's box with a margin, within the image: left, top, right, bottom in pixels."""
    person = annotations.annotated()[index]
    x, y, width, height = annotations.boxes[person]
    margin = MARGIN * max(width, height)
    image_width, image_height = annotations.image_sizes[annotations.image_index[person]]
    right, bottom = min(x + width + margin, image_width), min(y + height + margin, image_height)
    return int(max(x - margin, 0)), int(max(y - margin, 0)), int(right), int(bottom)


def typical_person(annotations: Annotations, poses: Poses) -> int:
    """The person whose prediction has the median similarity among those with many keypoints."""
    order = _telling(annotations)
    similarity = oks_to_truth(annotations, poses.keypoints)[order]
    return int(order[np.argsort(similarity, kind="stable")[len(order) // 2]])


@style()
def oks_on_person(annotations: Annotations, poses: Poses, index: int, conditions: str) -> Figure:
    """One person's OKS: circles in which a keypoint's similarity is above 0.5, and each value.

    Args:
        annotations: ground truth.
        poses: predictions in its annotated persons' own boxes, in order.
        index: of the person among them.
        conditions: data, model and protocol.
    """
    person = annotations.annotated()[index]
    skeleton, truth = annotations.skeleton, annotations.keypoints[person]
    similarity = keypoint_similarity(
        keypoint_errors(annotations, poses.keypoints)[index : index + 1], skeleton
    )[0]
    root = np.sqrt(annotations.areas[person])
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 5), width_ratios=[1.15, 1])
    image = annotations.read_image(annotations.image_index[person])
    left.imshow((0.55 * image + 0.45 * 255).astype(np.uint8))
    x0, y0, x1, y1 = _window(annotations, index)
    left.set(xlim=(x0, x1), ylim=(y1, y0))
    left.set_axis_off()
    annotated = np.flatnonzero(truth[:, 2] > 0)
    for keypoint in annotated:
        center, found = truth[keypoint, :2], poses.keypoints[index, keypoint]
        radius = HALF * skeleton.sigmas[keypoint] * root
        left.add_patch(Circle(tuple(center), radius, fc="none", ec=PALETTE[0], lw=1.3))
        left.plot(*zip(center, found, strict=True), color=OURS, lw=1.3)
        left.plot(*found, marker="o", ms=4, color=OURS)
    left.set_title("circle: similarity 0.5; orange: the prediction", fontsize="small")
    right.barh(range(len(annotated)), similarity[annotated], color=PALETTE[0], height=0.7)
    right.set_yticks(range(len(annotated)), [spoken(skeleton.keypoints[k]) for k in annotated])
    right.invert_yaxis()
    right.set(xlim=(0, 1), xlabel="similarity exp(-d² / (8 A σ²))")
    mean = similarity[annotated].mean()
    right.axvline(mean, color="black", lw=1.2, ls="--")
    right.set_title(f"dashed: their mean, OKS {mean:.2f}", fontsize="small")
    right.grid(axis="y", visible=False)
    describe(figure, "Object keypoint similarity of one person", conditions)
    return figure

"""What weights say of themselves: all that it takes to use them rightly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from hwl.codec import STRIDE, HeatmapCodec
from hwl.errors import HwlError
from hwl.skeletons import KNOWN, Skeleton

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB between 0 and 1
IMAGENET_STD = (0.229, 0.224, 0.225)
DECODE = "quarter-pixel"  # what HeatmapCodec.decode does
PAPER_SIZE = (256, 192)  # height, width in pixels


@dataclass(frozen=True, kw_only=True)
class Description:
    """What travels with a model's weights.

    Attributes:
        skeleton: the K keypoints in the order of the heatmaps, limbs, OKS sigmas and flip pairs.
        input_size: (height, width) in pixels that the model was trained at.
        mean: of RGB between 0 and 1, subtracted from the crops.
        std: likewise, by which they are divided.
        stride: input pixels per heatmap cell.
        sigma: of the target Gaussian in heatmap cells.
        decode: how heatmaps become keypoints.
        trained_on: persons, annotation file and its fingerprint (empty: not known).
        metrics: what the model reached, between 0 and 1 (empty: not measured).
        protocol: how the metrics were measured, in words.
    """

    skeleton: Skeleton
    input_size: tuple[int, int] = PAPER_SIZE
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    stride: int = STRIDE
    sigma: float = 2.0
    decode: str = DECODE
    trained_on: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    protocol: str = ""

    def check_keypoints(self, skeleton: Skeleton, whose: object, weights: object) -> None:
        """HwlError unless these are the keypoints of `skeleton`, by name and in order.

        Args:
            skeleton: the keypoints of data or of another model.
            whose: the file that has them, for the message.
            weights: the file with this description, for the message.
        """
        ours, theirs = self.skeleton.keypoints, skeleton.keypoints
        if len(ours) != len(theirs):
            raise HwlError(
                f"{weights} predicts {len(ours)} keypoints, {whose} has skeleton {skeleton.name} "
                f"of {len(theirs)}: train a model for it"
            )
        for number, (mine, other) in enumerate(zip(ours, theirs, strict=True), start=1):
            if mine != other:
                raise HwlError(
                    f"keypoint {number} of {weights} is '{mine}', that of {whose} is '{other}': "
                    "the keypoints must agree in name and order"
                )

    def to_dict(self) -> dict[str, Any]:
        """The description in plain values, for checkpoints and the metadata of files."""
        skeleton = self.skeleton
        return {
            "skeleton": skeleton.name,
            "keypoints": skeleton.keypoints,
            "limbs": skeleton.limbs,
            "sigmas": skeleton.sigmas,
            "flip_pairs": skeleton.pairs,
            "input_size": self.input_size,
            "mean": self.mean,
            "std": self.std,
            "stride": self.stride,
            "sigma": self.sigma,
            "decode": self.decode,
            "trained_on": self.trained_on,
            "metrics": {k: v for k, v in self.metrics.items() if math.isfinite(v)},
            "protocol": self.protocol,
        }


class _Schema(msgspec.Struct):
    skeleton: str
    keypoints: tuple[str, ...]
    limbs: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]
    flip_pairs: tuple[tuple[str, str], ...]
    input_size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    stride: int
    sigma: float
    decode: str
    trained_on: str = ""
    metrics: dict[str, float] = {}
    protocol: str = ""


def description_from_dict(told: Mapping[str, Any], source: object) -> Description:
    """Read what `Description.to_dict` made.

    Args:
        told: plain values.
        source: the file, for messages.

    Raises:
        HwlError: the values are not of the format, an entry is impossible, or the weights need a
            stride or decode that this version does not have.
    """
    try:
        read = msgspec.convert(told, _Schema)
        count = len(read.keypoints)
        for name, right in {
            "keypoints": len(set(read.keypoints)) == count > 0,
            "limbs": all(0 <= end < count for limb in read.limbs for end in limb),
            "sigmas": len(read.sigmas) == count and min(read.sigmas) > 0,
            "std": min(read.std) > 0,
            f"stride {read.stride}": read.stride == STRIDE,
            f"decode '{read.decode}'": read.decode == DECODE,
        }.items():
            if not right:
                raise HwlError(f"it has an impossible or unknown {name}")
        skeleton = _skeleton(read)
        HeatmapCodec(read.input_size, read.sigma)  # checks both
    except (msgspec.ValidationError, HwlError) as error:
        raise HwlError(
            f"{source}: its description cannot be used ({error}); export the weights again"
        ) from error
    return Description(
        skeleton=skeleton,
        input_size=read.input_size,
        mean=read.mean,
        std=read.std,
        sigma=read.sigma,
        trained_on=read.trained_on,
        metrics=read.metrics,
        protocol=read.protocol,
    )


def _skeleton(read: _Schema) -> Skeleton:
    """The keypoints; flip pairs that their names tell are left to the names."""
    named = Skeleton(
        name=read.skeleton, keypoints=read.keypoints, limbs=read.limbs, sigmas=read.sigmas
    )
    given = replace(named, flip_pairs=read.flip_pairs)
    _ = given.flip  # names that are none are found here
    try:
        return named if named.pairs == given.pairs else given
    except HwlError:  # sides that the names alone leave open
        return given


def assumed_description(num_keypoints: int, source: object) -> Description:
    """For weights that say nothing: the known keypoint set of that number, at 256x192.

    It is printed what is assumed.

    Raises:
        HwlError: no known set has as many keypoints.
    """
    for skeleton in KNOWN:
        if len(skeleton) == num_keypoints:
            print(
                f"{source} does not describe itself: its {num_keypoints} keypoints are taken for "
                f"those of {skeleton.name}, in that order"
            )
            return Description(skeleton=skeleton)
    raise HwlError(
        f"{source} predicts {num_keypoints} keypoints of no known set and does not name them: "
        "train it by this version of hwl"
    )

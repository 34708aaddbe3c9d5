"""Li and Xiang's model: MobileNetV3-Large with a lightweight head and attention."""

from __future__ import annotations

from collections.abc import Callable

from hwl.errors import HwlError
from hwl.models.blocks import Features
from hwl.models.heads import DeconvHead
from hwl.models.mobilenetv3 import MobileNetV3Big, torchvision_mobilenetv3
from hwl.models.pose import Parts

# By name, made for a convention of the hard sigmoid, which torchvision's own does not let choose.
BACKBONES: dict[str, Callable[[str], MobileNetV3Big | Features]] = {
    "mobilenetv3-big": MobileNetV3Big,
    "torchvision": lambda convention: torchvision_mobilenetv3(imagenet=False),
    "torchvision-imagenet": lambda convention: torchvision_mobilenetv3(imagenet=True),
}


def ours(
    num_keypoints: int,
    attention: tuple[str, ...] = ("none", "none", "full"),
    head: str = "lite",
    hard_sigmoid: str = "(x+3)/6",
    backbone: str = "mobilenetv3-big",
) -> Parts:
    """The paper's model; the options are its ablations.

    Args:
        num_keypoints: K, heatmaps to predict.
        attention: three names of `hwl.models.attention.ATTENTIONS`, one a stage of the head.
        head: "lite" (the paper's), "dense" or "grouped".
        hard_sigmoid: "(x+3)/6" or, as in mmcv 1.4.3, "(x+1)/2".
        backbone: a name in BACKBONES.

    Raises:
        HwlError: an option's value is not known.
    """
    if backbone not in BACKBONES:
        raise HwlError(f"backbone '{backbone}' is not one of {', '.join(BACKBONES)}")
    features = BACKBONES[backbone](hard_sigmoid)
    return features, DeconvHead(features.out_channels, num_keypoints, head, attention, hard_sigmoid)

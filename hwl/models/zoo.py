"""The models by name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import get_type_hints

from hwl.config import checked
from hwl.errors import HwlError
from hwl.models.heads import DeconvHead, PointwiseHead
from hwl.models.litehrnet import LiteHRNet
from hwl.models.mobilenetv2 import mobilenetv2
from hwl.models.mobilenetv3 import MobileNetV3Big, torchvision_mobilenetv3
from hwl.models.pose import PoseNet
from hwl.models.shufflenetv2 import shufflenetv2
from hwl.models.vipnas import VipnasMobileNetV3

BACKBONES = {
    "mobilenetv3-big": lambda convention: MobileNetV3Big(convention),
    "torchvision": lambda convention: torchvision_mobilenetv3(imagenet=False),
    "torchvision-imagenet": lambda convention: torchvision_mobilenetv3(imagenet=True),
}


def _ours(
    num_keypoints: int,
    attention: tuple[str, ...] = ("none", "none", "full"),
    head: str = "lite",
    hard_sigmoid: str = "(x+3)/6",
    backbone: str = "mobilenetv3-big",
) -> tuple:
    """Li and Xiang's model; the options are its ablations."""
    if backbone not in BACKBONES:
        raise HwlError(f"backbone '{backbone}' is not one of {', '.join(BACKBONES)}")
    features = BACKBONES[backbone](hard_sigmoid)
    return features, DeconvHead(features.out_channels, num_keypoints, head, attention, hard_sigmoid)


def _mobilenetv2(num_keypoints: int, imagenet: bool = False) -> tuple:
    features = mobilenetv2(imagenet)
    return features, DeconvHead(features.out_channels, num_keypoints, "dense")


def _shufflenetv2(num_keypoints: int, imagenet: bool = False) -> tuple:
    features = shufflenetv2(imagenet)
    return features, DeconvHead(features.out_channels, num_keypoints, "dense")


def _vipnas_mbv3(num_keypoints: int) -> tuple:
    features = VipnasMobileNetV3()
    return features, DeconvHead(features.out_channels, num_keypoints, "grouped", channels=160)


def _litehrnet18(num_keypoints: int) -> tuple:
    return LiteHRNet((2, 4, 2)), PointwiseHead(LiteHRNet.out_channels, num_keypoints)


def _litehrnet30(num_keypoints: int) -> tuple:
    return LiteHRNet((3, 8, 3)), PointwiseHead(LiteHRNet.out_channels, num_keypoints)


MODELS: dict[str, Callable[..., tuple]] = {
    "ours": _ours,
    "mobilenetv2": _mobilenetv2,
    "shufflenetv2": _shufflenetv2,
    "vipnas_mbv3": _vipnas_mbv3,
    "litehrnet18": _litehrnet18,
    "litehrnet30": _litehrnet30,
}


def check_model(name: str, options: Mapping[str, object]) -> None:
    """Check a model's name and the names and types of its options, without making it.

    Raises:
        HwlError: an unknown name or option, or an option's value of another type.
    """
    if name not in MODELS:
        raise HwlError(f"model '{name}' is not one of {', '.join(MODELS)}")
    hints = get_type_hints(MODELS[name])
    known = list(inspect.signature(MODELS[name]).parameters)[1:]
    for option, value in options.items():
        if option not in known:
            nearest = difflib.get_close_matches(str(option), known, n=1, cutoff=0.0)
            hint = f"; did you mean '{nearest[0]}'?" if nearest else ": it has none"
            raise HwlError(f"model '{name}' has no option '{option}'{hint}")
        checked(option, value, hints[option])


def create_model(name: str, num_keypoints: int = 17, **options: object) -> PoseNet:
    """A freshly initialized model, in training mode.

    Args:
        name: a key of MODELS. "ours" is the paper's model, 3,077,882 parameters at 17 keypoints;
            the others are the peers that it is compared with.
        num_keypoints: heatmaps to predict.
        options: of "ours": `attention` (three names of `hwl.models.attention.ATTENTIONS`, one a
            stage), `head` ("lite", "dense" or "grouped"), `hard_sigmoid` ("(x+3)/6" or
            "(x+1)/2") and `backbone` ("mobilenetv3-big", "torchvision" or
            "torchvision-imagenet"). Of "mobilenetv2" and "shufflenetv2": `imagenet`, True to
            start from torchvision's ImageNet weights.

    Raises:
        HwlError: an unknown name or option.
    """
    check_model(name, options)
    if num_keypoints < 1:
        raise HwlError(f"num_keypoints is {num_keypoints}: a model needs at least one keypoint")
    config = {"name": name, "num_keypoints": num_keypoints, **options}
    return PoseNet(*MODELS[name](num_keypoints, **options), config=config)

"""The models by name."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import get_type_hints

from hwl.config import checked
from hwl.errors import HwlError
from hwl.models.litehrnet import litehrnet18, litehrnet30
from hwl.models.mobilenetv2 import mobilenetv2
from hwl.models.ours import ours
from hwl.models.pose import Parts, PoseNet
from hwl.models.shufflenetv2 import shufflenetv2
from hwl.models.vipnas import vipnas_mbv3

# What makes a model's parts from a number of keypoints and its own options, by its name. A new
# model is a file and a line here; help texts, tables and figures have it from then on.
MODELS: dict[str, Callable[..., Parts]] = {
    "ours": ours,
    "mobilenetv2": mobilenetv2,
    "shufflenetv2": shufflenetv2,
    "vipnas_mbv3": vipnas_mbv3,
    "litehrnet18": litehrnet18,
    "litehrnet30": litehrnet30,
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
        options: the model's own, the parameters of its function in MODELS after the first.

    Raises:
        HwlError: an unknown name or option.
    """
    check_model(name, options)
    if num_keypoints < 1:
        raise HwlError(f"num_keypoints is {num_keypoints}: a model needs at least one keypoint")
    config = {"name": name, "num_keypoints": num_keypoints, **options}
    backbone, head = MODELS[name](num_keypoints, **options)
    return PoseNet(backbone, head, config)

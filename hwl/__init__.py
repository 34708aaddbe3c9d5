"""hwl: lightweight human pose estimation with a loss weighted by the target heatmap.

A reproducibility package for Li and Xiang, "Lightweight Human Pose Estimation Using Loss
Weighted by Target Heatmap", ICPR 2022 workshops (arXiv 2205.10611).

    predictor = hwl.load("best.safetensors")
    poses = predictor("photo.jpg", boxes_xywh=[[40, 20, 180, 300]])
    poses.keypoints, poses.scores, poses.draw()
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hwl.codec import HeatmapCodec as HeatmapCodec
    from hwl.evaluation.evaluate import evaluate as evaluate
    from hwl.inference.load import load as load
    from hwl.losses import HeatmapWeightingLoss as HeatmapWeightingLoss
    from hwl.models import create_model as create_model
    from hwl.training.fit import fit as fit

__version__ = "0.1.0"

# The public face, imported when it is asked for: torch and its friends take seconds.
_FACE = {
    "load": "hwl.inference.load",
    "create_model": "hwl.models",
    "HeatmapWeightingLoss": "hwl.losses",
    "HeatmapCodec": "hwl.codec",
    "fit": "hwl.training.fit",
    "evaluate": "hwl.evaluation.evaluate",
}
__all__ = ["HeatmapCodec", "HeatmapWeightingLoss", "create_model", "evaluate", "fit", "load"]


def __getattr__(name: str) -> object:
    if name not in _FACE:
        raise AttributeError(f"module 'hwl' has no attribute '{name}'")
    return getattr(importlib.import_module(_FACE[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_FACE]

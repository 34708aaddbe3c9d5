"""The paper's own numbers and claims, as data; every table that shows them says "paper"."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

# Table of COCO val2017: flip test, detected person boxes of 56.4 AP. Percent.
COCO_VAL = pd.DataFrame(
    [
        ("256x192", 3.1, 0.58, 65.8, 87.7, 74.1, 62.6, 72.4, 72.1),
        ("384x288", 3.1, 1.30, 69.9, 88.8, 77.5, 66.0, 76.7, 75.5),
    ],
    columns=["input", "params_M", "GFLOPs", "AP", "AP50", "AP75", "AP_M", "AP_L", "AR"],
)

# Speed table at 256x192: frames a second on a GTX 1650 Ti notebook GPU and an i7-10750H.
SPEED = pd.DataFrame(
    [
        ("mobilenetv2", 64.6, 57.6, 19.3, 1.59),
        ("shufflenetv2", 59.9, 51.8, 20.2, 1.37),
        ("vipnas_mbv3", 67.8, 22.6, 4.6, 0.69),
        ("litehrnet18", 64.8, 12.8, 10.3, 0.20),
        ("litehrnet30", 67.2, 7.5, 6.2, 0.31),
        ("ours", 65.8, 55.2, 18.3, 0.58),
    ],
    columns=["model", "AP", "FPS_GPU", "FPS_CPU", "GFLOPs"],
)


class Claim(NamedTuple):
    """What the paper says.

    Attributes:
        where: in the paper.
        says: the claim in words.
        number: with which it says so, or "".
    """

    where: str
    says: str
    number: str = ""


_SMALL = COCO_VAL.iloc[0]
_FPS = SPEED.set_index("model")["FPS_CPU"]

# The paper's claims that runs here test; the pages that show them take their words from here.
CLAIMS = {
    "size": Claim(
        "results on val2017",
        "the model is small",
        f"{_SMALL['params_M']} M parameters, {_SMALL['GFLOPs']} GFLOPs at {_SMALL['input']}",
    ),
    "accuracy": Claim(
        "results on val2017",
        "it is accurate for its size",
        f"AP {_SMALL['AP'] / 100:.3f}: COCO val2017, {_SMALL['input']}, detected boxes, flip test",
    ),
    "speed": Claim(
        "speed table, CPU",
        "it is fast on a CPU",
        f"{_FPS['ours']} FPS; slower than MobileNetV2 ({_FPS['mobilenetv2']}) and ShuffleNetV2 "
        f"({_FPS['shufflenetv2']}), faster than the others",
    ),
    "loss": Claim(
        "the loss",
        "weighting by the target heatmap beats MSE",
        "higher AP with F(G) = G than with F = 0",
    ),
    "double": Claim("loss ablation", "F(G) = 2G, an alternative, beats MSE"),
    "square": Claim("loss ablation", "F(G) = G^2, an alternative, beats MSE"),
    "exponential": Claim("loss ablation", "F(G) = exp(G), as convex, beats MSE"),
    "attention": Claim("attention ablation", "the attention block helps"),
    "squeeze-excite": Claim("the authors' code", "the attention block beats its squeeze-excite"),
    "cbam": Claim("the authors' code", "the attention block beats its CBAM"),
    "head": Claim("the lite head", "it costs no accuracy against the dense one"),
}

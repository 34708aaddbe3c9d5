"""The paper's own published numbers, as data; every table that shows them says "paper"."""

from __future__ import annotations

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

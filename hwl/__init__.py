"""hwl: lightweight human pose estimation with a loss weighted by the target heatmap.

A reproducibility package for Li and Xiang, "Lightweight Human Pose Estimation Using Loss
Weighted by Target Heatmap", ICPR 2022 workshops (arXiv 2205.10611).
"""

__version__ = "0.1.0"

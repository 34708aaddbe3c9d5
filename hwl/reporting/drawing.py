"""Heatmaps drawn on images."""

from __future__ import annotations

import cv2
import matplotlib
import numpy as np


def overlay(image: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """An image with a heatmap over it, the hotter the less transparent.

    Args:
        image: (H, W, 3) uint8 RGB.
        heatmap: (h, w) from 0 to 1, the height of a target's peak; any size.
    """
    heat = cv2.resize(heatmap.astype(np.float32), image.shape[1::-1])
    heat = np.clip(heat, 0, 1)
    colors = matplotlib.colormaps["inferno"](heat)[:, :, :3] * 255
    alpha = 0.25 + 0.65 * heat[:, :, None]
    return (image * (1 - alpha) + colors * alpha).astype(np.uint8)

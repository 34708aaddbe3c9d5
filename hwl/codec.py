"""HeatmapCodec: keypoints to target heatmaps and heatmaps back to keypoints.

The unnormalized-Gaussian codec of SimpleBaseline and mmpose 0.x ("MSRA"), which the paper uses.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hwl.errors import HwlError

STRIDE = 4  # input pixels per heatmap cell


class HeatmapCodec:
    """Translates between keypoints in input pixels and heatmaps of a quarter of the input size.

    Args:
        input_size: (height, width) of the model input in pixels, both divisible by 32.
        sigma: standard deviation of the target Gaussian in heatmap cells (the paper keeps 2 at
            both input sizes).
    """

    def __init__(self, input_size: tuple[int, int], sigma: float = 2.0) -> None:
        if len(input_size) != 2 or any(side < 32 or side % 32 for side in input_size):
            raise HwlError(f"input size {tuple(input_size)}: height and width must divide by 32")
        if not 0 < sigma < float("inf"):  # written so that NaN fails too
            raise HwlError(f"sigma is {sigma}: it must be positive")
        self.input_size = (input_size[0], input_size[1])
        self.heatmap_size = (input_size[0] // STRIDE, input_size[1] // STRIDE)
        self.sigma = sigma

    def encode(self, keypoints: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Target heatmaps of one person.

        Each keypoint becomes a Gaussian of peak 1 centered on cell x / 4 + 0.5, truncated toward
        zero, and cut at three sigma, its radius. Weight is 0 where a center lies below
        -(radius + 1) or at size + radius or beyond, in x or y. mmpose 0.x rounds and tests so; a
        center of exactly -(radius + 1) keeps its weight, with an empty heatmap.

        Args:
            keypoints: (K, 2) x, y in input pixels.
            weights: (K,) target weights, 0 for an unannotated keypoint.

        Returns:
            heatmaps (K, H/4, W/4) float32 and weights (K,) float32.
        """
        height, width = self.heatmap_size
        radius = int(3 * self.sigma)
        cells = np.trunc(keypoints / STRIDE + 0.5)
        low, high = -(radius + 1), np.array([width, height]) + radius
        inside = ((cells >= low) & (cells < high)).all(axis=1)
        weights = np.where(inside, weights, 0).astype(np.float32)
        # The Gaussian is separable: one profile over x, one over y, each cut to the window.
        profiles = []
        for axis, length in ((0, width), (1, height)):
            distance = np.arange(length, dtype=np.float32) - cells[:, axis, None].astype(np.float32)
            profile = np.exp(-(distance**2) / np.float32(2 * self.sigma**2))
            profiles.append(np.where(np.abs(distance) <= radius, profile, 0))
        heatmaps = profiles[1][:, :, None] * profiles[0][:, None, :]
        heatmaps[weights == 0] = 0
        return heatmaps.astype(np.float32), weights

    def decode(self, heatmaps: Tensor | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Keypoints of N persons: the highest cell, moved a quarter cell to its higher neighbor.

        The move is made in x and in y for maxima at least two cells from the border. A heatmap
        without a positive value holds no keypoint: it is put at (-4, -4), its score not positive.

        Args:
            heatmaps: (N, K, H/4, W/4), on any device.

        Returns:
            keypoints (N, K, 2) float32 in input pixels and scores (N, K) float32, the peak heights.
        """
        heatmaps = torch.as_tensor(heatmaps).float()
        _, _, height, width = heatmaps.shape
        flat = heatmaps.flatten(2)
        scores, index = flat.max(dim=2)
        x, y = index % width, index // width
        central = (x > 1) & (x < width - 1) & (y > 1) & (y < height - 1)
        # Where the maximum is not central the neighbor is itself, and the move comes out as 0.
        step, row = central.long(), central.long() * width

        def at(position: Tensor) -> Tensor:
            return flat.gather(2, position.unsqueeze(2)).squeeze(2)

        move_x = torch.sign(at(index + step) - at(index - step))
        move_y = torch.sign(at(index + row) - at(index - row))
        cells = torch.stack([x + 0.25 * move_x, y + 0.25 * move_y], dim=2)
        cells = torch.where((scores > 0).unsqueeze(2), cells, -1.0)
        return (cells * STRIDE).cpu().numpy(), scores.cpu().numpy()

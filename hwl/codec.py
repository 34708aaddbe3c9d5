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
        self.radius = int(3 * sigma)  # cells at which the Gaussian is cut

    def encode(self, keypoints: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Target heatmaps of one person: `gaussians` on `cells`.

        Args:
            keypoints: (K, 2) x, y in input pixels.
            weights: (K,) target weights, 0 for an unannotated keypoint.

        Returns:
            heatmaps (K, H/4, W/4) float32 and weights (K,) float32.
        """
        cells, weights = self.cells(keypoints, weights)
        return self.gaussians(torch.from_numpy(cells), torch.from_numpy(weights)).numpy(), weights

    def cells(self, keypoints: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The cell on which each keypoint's Gaussian is centered: x / 4 + 0.5, cut toward zero.

        Weight is 0 where it lies below -(radius + 1) or at size + radius or beyond, in x or y, with
        a radius of three sigma. mmpose 0.x rounds and tests so; a center of exactly -(radius + 1)
        keeps its weight, with an empty heatmap.

        Args:
            keypoints: (..., 2) x, y in input pixels.
            weights: (...) target weights, 0 for an unannotated keypoint.

        Returns:
            cells (..., 2) int64 x, y and weights (...) float32.
        """
        height, width = self.heatmap_size
        cells = np.trunc(keypoints / STRIDE + 0.5)
        low, high = -(self.radius + 1), np.array([width, height]) + self.radius
        inside = np.all((cells >= low) & (cells < high), axis=-1)
        weights = np.where(inside, weights, 0).astype(np.float32)
        return np.where(np.expand_dims(inside, -1), cells, 0).astype(np.int64), weights

    def gaussians(self, cells: Tensor, weights: Tensor) -> Tensor:
        """Gaussians of peak 1 around cells, cut at three sigma; nothing where the weight is 0.

        Args:
            cells: (..., 2) int64 x, y, on any device.
            weights: (...) there.

        Returns:
            (..., H/4, W/4) float32 heatmaps there.
        """
        # Centers are whole cells, so that a profile over x or y has few values; 0 is the last.
        distance = np.arange(self.radius + 1, dtype=np.float32)
        profile = np.exp(-(distance**2) / np.float32(2 * self.sigma**2))
        values = torch.from_numpy(np.append(profile, np.float32(0))).to(cells.device)

        def along(axis: int, length: int) -> Tensor:
            distances = torch.arange(length, device=cells.device) - cells[..., axis, None]
            return values[distances.abs().clamp(max=self.radius + 1)]

        height, width = self.heatmap_size
        rows = along(1, height) * (weights != 0)[..., None]
        return rows[..., :, None] * along(0, width)[..., None, :]

    def decode(self, heatmaps: Tensor | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Keypoints of N persons: the highest cell, moved a quarter cell to its higher neighbor.

        The move is made in x and in y for maxima whose cell has x from 2 to W/4 - 2 and y from 2 to
        H/4 - 2, counted from 0, as mmpose has it. A heatmap without a positive value holds no
        keypoint: it is put at (-4, -4), its score not positive.

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

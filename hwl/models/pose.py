"""PoseNet: what every model is, a backbone and a head."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from hwl.errors import HwlError
from hwl.models.description import IMAGENET_MEAN, IMAGENET_STD, Description

# A backbone, (N, 3, H, W) -> features, and a head, features -> (N, K, H/4, W/4) heatmaps.
Parts: TypeAlias = tuple[nn.Module, nn.Module]


class PoseNet(nn.Module):
    """A top-down pose model.

    Args:
        backbone: (N, 3, H, W) -> features.
        head: features -> (N, K, H/4, W/4).
        config: name and arguments of `create_model` that make this model; saved beside weights.

    Attributes:
        description: what travels with the weights; None while nothing is known of them.
        mean: (3, 1, 1) of RGB between 0 and 255; not in the state dict.
        std: likewise.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, head: nn.Module, config: dict[str, Any]) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.config = config
        self.description: Description | None = None
        self.register_buffer("mean", _of_channels(IMAGENET_MEAN), persistent=False)
        self.register_buffer("std", _of_channels(IMAGENET_STD), persistent=False)

    @property
    def num_keypoints(self) -> int:
        """K, the heatmaps that the model predicts."""
        return int(self.config["num_keypoints"])

    def describe(self, description: Description) -> None:
        """Take over a description, with its mean and deviation."""
        self.description = description
        with torch.no_grad():
            self.mean.copy_(_of_channels(description.mean))
            self.std.copy_(_of_channels(description.std))

    def preprocess(self, crops: Tensor) -> Tensor:
        """(N, 3, H, W) uint8 RGB crops as `forward` takes them: float32, mean 0, deviation 1."""
        return (crops.float() - self.mean) / self.std

    def forward(self, images: Tensor) -> Tensor:
        """Heatmaps of N person crops.

        Args:
            images: (N, 3, H, W) float, from `preprocess`.

        Returns:
            (N, K, H/4, W/4) heatmaps.

        Raises:
            HwlError: H or W does not divide by 32.
        """
        height, width = images.shape[-2:]
        if height % 32 or width % 32:
            raise HwlError(f"the input is {height}x{width} pixels: both sides must divide by 32")
        return self.head(self.backbone(images))


def _of_channels(values: tuple[float, float, float]) -> Tensor:
    return torch.tensor(values).view(3, 1, 1) * 255

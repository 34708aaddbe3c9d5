"""PoseNet: what every model is, a backbone and a head."""

from __future__ import annotations

from typing import TypeAlias

from torch import Tensor, nn

from hwl.errors import HwlError

# A backbone, (N, 3, H, W) -> features, and a head, features -> (N, K, H/4, W/4) heatmaps.
Parts: TypeAlias = tuple[nn.Module, nn.Module]


class PoseNet(nn.Module):
    """A top-down pose model.

    Args:
        backbone: (N, 3, H, W) -> features.
        head: features -> (N, K, H/4, W/4).
        config: name and arguments of `create_model` that make this model; saved beside weights.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, config: dict[str, object]) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.config = config

    def forward(self, images: Tensor) -> Tensor:
        """Heatmaps of N person crops.

        Args:
            images: (N, 3, H, W) float, normalized by `hwl.data.crops.normalize`.

        Returns:
            (N, K, H/4, W/4) heatmaps.

        Raises:
            HwlError: H or W does not divide by 32.
        """
        height, width = images.shape[-2:]
        if height % 32 or width % 32:
            raise HwlError(f"the input is {height}x{width} pixels: both sides must divide by 32")
        return self.head(self.backbone(images))

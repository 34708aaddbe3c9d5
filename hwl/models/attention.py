"""The attention block after a deconvolution stage, and the alternatives of its ablation.

Li and Xiang add original, inter-level (channel) and intra-level (spatial) information:
Attention(x) = x + x * C(x) + x * S(x).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from hwl.errors import HwlError
from hwl.models.blocks import Activation, ConvUnit, SqueezeExcite, relu

RATIO = 4  # channels to hidden channels of every channel gate


class SpatialGate(nn.Sequential):
    """S: 1x1 convolution to one channel, ReLU, 3x3, gate; (N, C, H, W) -> (N, 1, H, W)."""

    def __init__(self, channels: int, gate: Activation) -> None:
        super().__init__()
        self.conv1 = ConvUnit(channels, 1, norm=False, activation=relu)
        self.conv2 = ConvUnit(1, 1, 3, norm=False, activation=gate)


class ChannelAttention(nn.Module):
    """x + x * C(x)."""

    def __init__(self, channels: int, gate: Activation) -> None:
        super().__init__()
        self.se = SqueezeExcite(channels, channels // RATIO, gate)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return x * (1 + self.se.gate(x))


class SpatialAttention(nn.Module):
    """x + x * S(x)."""

    def __init__(self, channels: int, gate: Activation) -> None:
        super().__init__()
        self.sse = SpatialGate(channels, gate)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return x * (1 + self.sse(x))


class FullAttention(nn.Module):
    """The paper's x + x * C(x) + x * S(x)."""

    def __init__(self, channels: int, gate: Activation) -> None:
        super().__init__()
        self.se = SqueezeExcite(channels, channels // RATIO, gate)
        self.sse = SpatialGate(channels, gate)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return x * (1 + self.se.gate(x) + self.sse(x))


class Cbam(nn.Module):
    """Convolutional block attention module: a channel gate, then a 7x7 spatial gate.

    The channel gate adds the answers to average- and max-pooled input before its hard sigmoid.
    """

    def __init__(self, channels: int, gate: Activation) -> None:
        super().__init__()
        self.conv1 = ConvUnit(channels, channels // RATIO, norm=False, activation=relu)
        self.conv2 = ConvUnit(channels // RATIO, channels, norm=False)
        self.spatial = ConvUnit(2, 1, 7, norm=False)
        self.gate = gate()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        pooled = functional.adaptive_avg_pool2d(x, 1), functional.adaptive_max_pool2d(x, 1)
        x = x * self.gate(sum(self.conv2(self.conv1(values)) for values in pooled))
        maps = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
        return x * self.gate(self.spatial(maps))


def _squeeze_excite(channels: int, gate: Activation) -> SqueezeExcite:
    return SqueezeExcite(channels, channels // RATIO, gate)


ATTENTIONS = {
    "none": None,
    "channel": ChannelAttention,
    "spatial": SpatialAttention,
    "squeeze-excite": _squeeze_excite,
    "cbam": Cbam,
    "full": FullAttention,
}


def attention(name: str, channels: int, gate: Activation) -> list[nn.Module]:
    """The attention block of that name as a list of one module, or of none for "none".

    Raises:
        HwlError: the name is not a key of ATTENTIONS.
    """
    if name not in ATTENTIONS:
        raise HwlError(f"attention '{name}' is not one of {', '.join(ATTENTIONS)}")
    block = ATTENTIONS[name]
    return [] if block is None else [block(channels, gate)]

"""Heads that turn features into heatmaps of 1/4 of the input size."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from hwl.errors import HwlError
from hwl.models.attention import attention
from hwl.models.blocks import hard_sigmoid, init_normal, relu

STAGES = 3


def _dense_stage(in_channels: int, channels: int, groups: int = 1) -> list[nn.Module]:
    """SimpleBaseline's stage: one 4x4 stride-2 transposed convolution."""
    return [
        nn.ConvTranspose2d(in_channels, channels, 4, 2, 1, groups=groups, bias=False),
        nn.BatchNorm2d(channels),
        relu(),
    ]


def _lite_stage(in_channels: int, channels: int) -> list[nn.Module]:
    """The paper's stage: the transposed convolution made depthwise, then a pointwise one."""
    return [
        *_dense_stage(in_channels, in_channels, groups=in_channels),
        nn.Conv2d(in_channels, channels, 1),
        nn.BatchNorm2d(channels),
        relu(),
    ]


def _grouped_stage(in_channels: int, channels: int) -> list[nn.Module]:
    """ViPNAS's stage: the transposed convolution in as many groups as its channels allow."""
    return _dense_stage(in_channels, channels, groups=math.gcd(in_channels, channels))


STAGE_KINDS = {"lite": _lite_stage, "dense": _dense_stage, "grouped": _grouped_stage}


class DeconvHead(nn.Module):
    """Three up-sampling stages with attention where asked for, then a 1x1 convolution.

    Args:
        in_channels: channels of the backbone's features.
        num_keypoints: K, the heatmaps to predict.
        kind: "lite" (the paper: depthwise and pointwise), "dense" (SimpleBaseline) or "grouped"
            (ViPNAS: depthwise alone).
        attention_per_stage: three names of `hwl.models.attention.ATTENTIONS`.
        hard_sigmoid_convention: the attention gates' hard sigmoid.
        channels: channels of each stage's output.
    """

    def __init__(
        self,
        in_channels: int,
        num_keypoints: int,
        kind: str,
        attention_per_stage: Sequence[str] = ("none",) * STAGES,
        hard_sigmoid_convention: str = "(x+3)/6",
        channels: int = 256,
    ) -> None:
        super().__init__()
        if kind not in STAGE_KINDS:
            raise HwlError(f"head '{kind}' is not one of {', '.join(STAGE_KINDS)}")
        if isinstance(attention_per_stage, str) or len(attention_per_stage) != STAGES:
            raise HwlError(
                f"attention is {attention_per_stage!r}: give {STAGES} names, one a stage, "
                "such as ['none', 'none', 'full']"
            )
        gate = hard_sigmoid(hard_sigmoid_convention)
        layers: list[nn.Module] = []
        for name in attention_per_stage:
            layers += STAGE_KINDS[kind](in_channels, channels) + attention(name, channels, gate)
            in_channels = channels
        self.deconv_layers = nn.Sequential(*layers)
        self.final_layer: nn.Module = nn.Conv2d(channels, num_keypoints, 1)
        for part in layers:
            if isinstance(part, nn.ConvTranspose2d):
                init_normal(part)
        init_normal(self.final_layer)

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H/32, W/32) features -> (N, K, H/4, W/4) heatmaps."""
        return self.final_layer(self.deconv_layers(features))


class PointwiseHead(nn.Sequential):
    """A 1x1 convolution alone, for Lite-HRNet: (N, C, H/4, W/4) -> (N, K, H/4, W/4)."""

    def __init__(self, in_channels: int, num_keypoints: int) -> None:
        super().__init__()
        self.final_layer = nn.Conv2d(in_channels, num_keypoints, 1)
        init_normal(self)

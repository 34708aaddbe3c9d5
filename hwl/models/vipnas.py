"""ViPNAS-MobileNetV3, a peer of the paper's comparison: mmpose's searched backbone.

Its blocks are MobileNetV3's with grouped convolutions in place of depthwise ones. The hard
sigmoid of its squeeze-excite is (x+1)/2.
"""

from __future__ import annotations

from torch import nn

from hwl.models.blocks import ConvUnit, HalfHardSigmoid, hard_swish, init_normal, relu
from hwl.models.heads import DeconvHead
from hwl.models.mobilenetv3 import InvertedResidual
from hwl.models.pose import Parts

# blocks, kernel, expansion, groups, output channels, squeeze-excite, activation, first stride
STAGES = (
    (1, 3, 1, 8, 16, True, relu, 1),
    (4, 7, 5, 120, 24, True, relu, 2),
    (4, 7, 4, 20, 40, False, relu, 2),
    (4, 5, 5, 100, 80, True, hard_swish, 2),
    (4, 7, 5, 280, 112, True, hard_swish, 1),
    (4, 5, 6, 240, 160, True, hard_swish, 2),
)


class VipnasMobileNetV3(nn.Sequential):
    """(N, 3, H, W) -> (N, 160, H/32, W/32)."""

    out_channels = 160

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = ConvUnit(3, 16, 3, 2, activation=hard_swish)
        channels = 16
        for depth, kernel, expansion, groups, width, squeeze_excite, activation, stride in STAGES:
            for block in range(depth):
                layer = InvertedResidual(
                    channels,
                    kernel,
                    width * expansion,
                    width,
                    squeeze_excite,
                    activation,
                    stride if block == 0 else 1,
                    HalfHardSigmoid,
                    groups,
                    expand=expansion > 1,
                )
                self.add_module(f"layer{len(self)}", layer)  # conv1 makes the first one layer1
                channels = width
        init_normal(self)


def vipnas_mbv3(num_keypoints: int) -> Parts:
    """The backbone and ViPNAS's head for K keypoints."""
    features = VipnasMobileNetV3()
    return features, DeconvHead(features.out_channels, num_keypoints, "grouped", channels=160)

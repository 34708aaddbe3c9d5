"""MobileNetV3 "big": the paper's backbone, mmpose 0.x's variant and not torchvision's.

It differs from torchvision's MobileNetV3-Large: the first block expands too, blocks 13 to 15
have other widths and strides, squeeze-excite has int(mid / 4) hidden channels, BN eps is 1e-5.
"""

from __future__ import annotations

from torch import Tensor, nn

from hwl.models.blocks import (
    Activation,
    ConvUnit,
    Features,
    SqueezeExcite,
    hard_sigmoid,
    hard_swish,
    init_kaiming,
    relu,
    torchvision_model,
)

# kernel, expanded channels, output channels, squeeze-excite, activation, stride
BIG = (
    (3, 16, 16, False, relu, 1),
    (3, 64, 24, False, relu, 2),
    (3, 72, 24, False, relu, 1),
    (5, 72, 40, True, relu, 2),
    (5, 120, 40, True, relu, 1),
    (5, 120, 40, True, relu, 1),
    (3, 240, 80, False, hard_swish, 2),
    (3, 200, 80, False, hard_swish, 1),
    (3, 184, 80, False, hard_swish, 1),
    (3, 184, 80, False, hard_swish, 1),
    (3, 480, 112, True, hard_swish, 1),
    (3, 672, 112, True, hard_swish, 1),
    (5, 672, 160, True, hard_swish, 1),
    (5, 672, 160, True, hard_swish, 2),
    (5, 960, 160, True, hard_swish, 1),
)


class InvertedResidual(nn.Module):
    """Expand 1x1, depthwise kxk, optional squeeze-excite, project 1x1; residual where it fits.

    ViPNAS's variants: fewer `groups` than channels, and no expansion.
    """

    def __init__(
        self,
        in_channels: int,
        kernel: int,
        mid_channels: int,
        out_channels: int,
        squeeze_excite: bool,
        activation: Activation,
        stride: int,
        gate: Activation,
        groups: int | None = None,
        expand: bool = True,
    ) -> None:
        super().__init__()
        self.residual = stride == 1 and in_channels == out_channels
        self.expand_conv = (
            ConvUnit(in_channels, mid_channels, activation=activation) if expand else nn.Identity()
        )
        self.depthwise_conv = ConvUnit(
            mid_channels,
            mid_channels,
            kernel,
            stride,
            groups or mid_channels,
            activation=activation,
        )
        self.se = (
            SqueezeExcite(mid_channels, mid_channels // 4, gate)
            if squeeze_excite
            else nn.Identity()
        )
        self.linear_conv = ConvUnit(mid_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H / stride, W / stride)."""
        y = self.linear_conv(self.se(self.depthwise_conv(self.expand_conv(x))))
        return x + y if self.residual else y


class MobileNetV3Big(nn.Sequential):
    """(N, 3, H, W) -> (N, 960, H/32, W/32)."""

    out_channels = 960

    def __init__(self, hard_sigmoid_convention: str) -> None:
        super().__init__()
        gate = hard_sigmoid(hard_sigmoid_convention)
        self.conv1 = ConvUnit(3, 16, 3, 2, activation=hard_swish)
        channels = 16
        for number, block in enumerate(BIG, start=1):
            self.add_module(f"layer{number}", InvertedResidual(channels, *block, gate=gate))
            channels = block[2]
        self.conv2 = ConvUnit(channels, self.out_channels, activation=hard_swish)
        init_kaiming(self)


def torchvision_mobilenetv3(imagenet: bool) -> Features:
    """torchvision's MobileNetV3-Large up to its 960-channel layer, an alternative backbone.

    Args:
        imagenet: start from torchvision's ImageNet weights (downloaded on first use).

    Raises:
        HwlError: the weights cannot be downloaded.
    """
    import torchvision  # its detection parts take a second, and no other model needs it

    weights = torchvision.models.MobileNet_V3_Large_Weights.IMAGENET1K_V2 if imagenet else None
    model = torchvision_model(torchvision.models.mobilenet_v3_large, weights)
    return Features(model.get_submodule("features").named_children(), out_channels=960)

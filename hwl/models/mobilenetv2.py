"""MobileNetV2, a peer of the paper's comparison: torchvision's backbone, mmpose's key names."""

from __future__ import annotations

import torchvision
from torch import nn

from hwl.models.blocks import torchvision_model, unit_names

# mmpose's seven layers: blocks, convolutions a block (the first layer does not expand)
LAYERS = ((1, 2), (2, 3), (3, 3), (4, 3), (3, 3), (3, 3), (1, 3))


def mobilenetv2(imagenet: bool) -> nn.Module:
    """MobileNetV2 1.0 up to its 1280-channel layer, (N, 3, H, W) -> (N, 1280, H/32, W/32).

    It is the same function as mmpose's and starts from the same Kaiming initialization.

    Args:
        imagenet: start from torchvision's ImageNet weights (downloaded on first use).

    Raises:
        HwlError: the weights cannot be downloaded.
    """
    weights = torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V2 if imagenet else None
    features = torchvision_model(torchvision.models.mobilenet_v2, weights).features
    blocks = [
        f"layer{layer}.{block}.conv.{unit}"
        for layer, (depth, units) in enumerate(LAYERS, start=1)
        for block in range(depth)
        for unit in range(units)
    ]
    features.out_channels = 1280
    features.checkpoint_names = unit_names(["conv1", *blocks, "conv2"], features)
    return features

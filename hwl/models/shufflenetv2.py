"""ShuffleNetV2, a peer of the paper's comparison: torchvision's backbone, mmpose's key names."""

from __future__ import annotations

from collections import OrderedDict

import torchvision
from torch import nn

from hwl.models.blocks import torchvision_model, unit_names

DEPTHS = (4, 8, 4)  # blocks of mmpose's three layers
FEATURES = ("conv1", "maxpool", "stage2", "stage3", "stage4", "conv5")


def shufflenetv2(imagenet: bool) -> nn.Module:
    """ShuffleNetV2 1.0x up to its 1024-channel layer, (N, 3, H, W) -> (N, 1024, H/32, W/32).

    It is the same function as mmpose's and has, without `imagenet`, its initialization.

    Args:
        imagenet: start from torchvision's ImageNet weights (downloaded on first use).

    Raises:
        HwlError: the weights cannot be downloaded.
    """
    weights = torchvision.models.ShuffleNet_V2_X1_0_Weights.IMAGENET1K_V1 if imagenet else None
    model = torchvision_model(torchvision.models.shufflenet_v2_x1_0, weights)
    features = nn.Sequential(OrderedDict((name, getattr(model, name)) for name in FEATURES))
    if not imagenet:
        _init_weights(features)
    units = ["conv1"]
    for layer, depth in enumerate(DEPTHS):
        units += [f"layers.{layer}.0.branch1.{unit}" for unit in range(2)]
        units += [f"layers.{layer}.{block}.branch2.{u}" for block in range(depth) for u in range(3)]
    features.out_channels = 1024
    features.checkpoint_names = unit_names([*units, "layers.3"], features)
    return features


def _init_weights(features: nn.Sequential) -> None:
    """mmpose 1.x's: normal with std 0.01 in the stem and 1 / input channels elsewhere."""
    for part in features.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.normal_(part.weight, std=1 / part.weight.shape[1])
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.constant_(part.bias, 0.0001)
    nn.init.normal_(features.conv1[0].weight, std=0.01)

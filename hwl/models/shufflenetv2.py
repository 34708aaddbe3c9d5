"""ShuffleNetV2, a peer of the paper's comparison: torchvision's backbone, mmpose's key names."""

from __future__ import annotations

from torch import nn

from hwl.models.blocks import Features, torchvision_model
from hwl.models.heads import DeconvHead
from hwl.models.pose import Parts

DEPTHS = (4, 8, 4)  # blocks of mmpose's three layers
FEATURES = ("conv1", "maxpool", "stage2", "stage3", "stage4", "conv5")


def shufflenetv2(num_keypoints: int, imagenet: bool = False) -> Parts:
    """ShuffleNetV2 1.0x up to its 1024-channel layer and SimpleBaseline's head.

    It is the same function as mmpose's and has, without `imagenet`, its initialization.

    Args:
        num_keypoints: K, heatmaps to predict.
        imagenet: start from torchvision's ImageNet weights (downloaded on first use).

    Returns:
        Backbone, (N, 3, H, W) -> (N, 1024, H/32, W/32), and head.

    Raises:
        HwlError: the weights cannot be downloaded.
    """
    import torchvision  # its detection parts take a second, and no other model needs it

    weights = torchvision.models.ShuffleNet_V2_X1_0_Weights.IMAGENET1K_V1 if imagenet else None
    model = torchvision_model(torchvision.models.shufflenet_v2_x1_0, weights)
    units = ["conv1"]
    for layer, depth in enumerate(DEPTHS):
        units += [f"layers.{layer}.0.branch1.{unit}" for unit in range(2)]
        units += [f"layers.{layer}.{block}.branch2.{u}" for block in range(depth) for u in range(3)]
    layers = [(name, model.get_submodule(name)) for name in FEATURES]
    features = Features(layers, out_channels=1024, units=[*units, "layers.3"])
    if not imagenet:
        _init_weights(features)
    return features, DeconvHead(features.out_channels, num_keypoints, "dense")


def _init_weights(features: nn.Sequential) -> None:
    """mmpose 1.x's: normal with std 0.01 in the stem and 1 / input channels elsewhere."""
    for part in features.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.normal_(part.weight, std=1 / part.weight.shape[1])
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.constant_(part.bias, 0.0001)
    nn.init.normal_(features.get_parameter("conv1.0.weight"), std=0.01)

"""MobileNetV2, a peer of the paper's comparison: torchvision's backbone, mmpose's key names."""

from __future__ import annotations

from hwl.models.blocks import Features, torchvision_model
from hwl.models.heads import DeconvHead
from hwl.models.pose import Parts

# mmpose's seven layers: blocks, convolutions a block (the first layer does not expand)
LAYERS = ((1, 2), (2, 3), (3, 3), (4, 3), (3, 3), (3, 3), (1, 3))


def mobilenetv2(num_keypoints: int, imagenet: bool = False) -> Parts:
    """MobileNetV2 1.0 up to its 1280-channel layer and SimpleBaseline's head.

    It is the same function as mmpose's and starts from the same Kaiming initialization.

    Args:
        num_keypoints: K, heatmaps to predict.
        imagenet: start from torchvision's ImageNet weights (downloaded on first use).

    Returns:
        Backbone, (N, 3, H, W) -> (N, 1280, H/32, W/32), and head.

    Raises:
        HwlError: the weights cannot be downloaded.
    """
    import torchvision  # its detection parts take a second, and no other model needs it

    weights = torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V2 if imagenet else None
    model = torchvision_model(torchvision.models.mobilenet_v2, weights)
    blocks = [
        f"layer{layer}.{block}.conv.{unit}"
        for layer, (depth, units) in enumerate(LAYERS, start=1)
        for block in range(depth)
        for unit in range(units)
    ]
    layers = model.get_submodule("features").named_children()
    features = Features(layers, out_channels=1280, units=["conv1", *blocks, "conv2"])
    return features, DeconvHead(features.out_channels, num_keypoints, "dense")

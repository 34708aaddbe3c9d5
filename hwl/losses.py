"""The paper's subject: a squared error weighted by a function of the target heatmap.

    L = 1/J * sum_j mean_{n,y,x} [ W * (w_nj P - w_nj G)^2 ],    W = F(G) + 1

with P the predicted and G the target heatmaps and w_nj the target weight of keypoint j of person n.
With F = 0 it is the plain MSE loss of SimpleBaseline.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from hwl.errors import HwlError

WeightFunction = Callable[[Tensor], Tensor]

# F, by the names used in tables and parameters. The paper's default is the identity.
WEIGHT_FUNCTIONS: dict[str, WeightFunction] = {
    "zero": torch.zeros_like,
    "identity": lambda target: target,
    "double": lambda target: 2 * target,
    "square": torch.square,
    "exponential": torch.exp,
}


def misplaced(target: Tensor) -> Tensor:
    """The identity's weights of the batch's previous person, shifted by half a heatmap in x and y.

    The shift wraps around. Crops of persons are aligned, so that unshifted weights of another
    person would lie on this one's keypoints by half of their sum (0.54 of it on puppets at 128x96,
    the identity's 0.92); these do by 0.001.

    Args:
        target: (N, K, H, W).
    """
    height, width = target.shape[2:]
    return target.roll((1, height // 2, width // 2), dims=(0, 2, 3))


# Weights that are no function of the target at their pixel, against which F is tested. The placebo
# has the identity's values in the wrong place.
CONTROLS: dict[str, WeightFunction] = {"placebo": misplaced}


class HeatmapWeightingLoss(nn.Module):
    """Heatmap-weighting loss (Li and Xiang 2022), plain MSE with `weight_function="zero"`.

    Args:
        weight_function: F, a name in WEIGHT_FUNCTIONS or CONTROLS or any callable from a target
            tensor to a tensor of the same shape; the paper asks for a convex increasing function.

    Raises:
        HwlError: the name is not known.
    """

    def __init__(self, weight_function: str | WeightFunction = "identity") -> None:
        super().__init__()
        if isinstance(weight_function, str):
            named = WEIGHT_FUNCTIONS | CONTROLS
            if weight_function not in named:
                raise HwlError(
                    f"weight function '{weight_function}' is not one of {', '.join(named)}"
                )
            weight_function = named[weight_function]
        self.weight_function = weight_function

    def weight(self, target: Tensor) -> Tensor:
        """W = F(G) + 1, the factor on each pixel's squared error, of the target's shape."""
        return self.weight_function(target) + 1

    def forward(self, predicted: Tensor, target: Tensor, target_weight: Tensor) -> Tensor:
        """The scalar loss, computed in float32 whatever the inputs' precision.

        Args:
            predicted: (N, K, H, W) predicted heatmaps.
            target: (N, K, H, W) target heatmaps, peak 1.
            target_weight: (N, K); 0 for keypoints that shall not count.
        """
        with torch.autocast(predicted.device.type, enabled=False):
            predicted, target = predicted.float(), target.float()
            error = (predicted - target) * target_weight.float()[:, :, None, None]
            # Each keypoint has as many pixels: the mean over keypoints of means is the mean.
            return (self.weight(target) * error.square()).mean()

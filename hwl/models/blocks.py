"""Building blocks that several models share: convolution units, hard sigmoids, squeeze-excite.

Initializations and what torchvision's backbones need are here too. Submodules carry the names
that mmpose checkpoints use (`conv`, `bn`, `conv1`, ...), so that published state dicts load
without a renaming table.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional

from hwl.errors import HwlError

if TYPE_CHECKING:  # takes a second, and most models need none of it
    from torchvision.models import WeightsEnum

Activation = Callable[[], nn.Module]


def relu() -> nn.Module:
    """In-place ReLU."""
    return nn.ReLU(inplace=True)


def hard_swish() -> nn.Module:
    """In-place x * relu6(x + 3) / 6."""
    return nn.Hardswish(inplace=True)


class HalfHardSigmoid(nn.Module):
    """clip((x + 1) / 2, 0, 1): mmcv's hard sigmoid up to 1.4.3, and ViPNAS's."""

    def forward(self, x: Tensor) -> Tensor:
        """Element-wise, any shape."""
        return functional.hardtanh(x).add(1).div(2)


# The authors pin no mmcv, whose default changed in 1.4.4. The later one is likely, and torch's own.
HARD_SIGMOIDS: dict[str, Activation] = {"(x+3)/6": nn.Hardsigmoid, "(x+1)/2": HalfHardSigmoid}


def hard_sigmoid(convention: str) -> Activation:
    """The hard sigmoid of a convention, a key of HARD_SIGMOIDS; HwlError if it is not one."""
    if convention not in HARD_SIGMOIDS:
        raise HwlError(f"hard sigmoid '{convention}' is not one of {', '.join(HARD_SIGMOIDS)}")
    return HARD_SIGMOIDS[convention]


class ConvUnit(nn.Sequential):
    """Convolution, then batch normalization and activation where asked for.

    The convolution is padded to keep the size at stride 1 and has a bias only without `norm`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        norm: bool = True,
        activation: Activation | None = None,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=not norm
        )
        if norm:
            self.bn = nn.BatchNorm2d(out_channels)
        if activation is not None:
            self.activation = activation()


class SqueezeExcite(nn.Module):
    """Channel gate of squeeze-excite models: x * gate(pooled x).

    Args:
        channels: input and output channels.
        hidden: channels between the two 1x1 convolutions.
        gate: activation that ends the gate, a hard sigmoid here.
    """

    def __init__(self, channels: int, hidden: int, gate: Activation) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.conv1 = ConvUnit(channels, hidden, norm=False, activation=relu)
        self.conv2 = ConvUnit(hidden, channels, norm=False, activation=gate)

    def gate(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, 1, 1) factors between 0 and 1."""
        return self.conv2(self.conv1(self.pool(x)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return x * self.gate(x)


def init_kaiming(module: nn.Module) -> None:
    """mmpose's backbone initialization: Kaiming normal (fan out) convolutions, zero biases."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def init_normal(module: nn.Module) -> None:
    """mmpose's other initialization: normal convolutions of std 0.001, zero biases."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(part.weight, std=0.001)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


class Features(nn.Sequential):
    """The layers of a torchvision model that make a backbone, under their own names.

    Args:
        layers: by name, in the order of the forward pass.
        out_channels: of the last one.
        units: mmpose's names of the convolution units, for checkpoints with its keys; see
            `unit_names`.

    Attributes:
        checkpoint_names: mmpose's module names to those here.
    """

    def __init__(
        self, layers: Iterable[tuple[str, nn.Module]], out_channels: int, units: Iterable[str] = ()
    ) -> None:
        super().__init__(OrderedDict(layers))
        self.out_channels = out_channels
        self.checkpoint_names = unit_names(units, self) if units else {}


def torchvision_model(build: Callable[..., nn.Module], weights: WeightsEnum | None) -> nn.Module:
    """torchvision's model made by `build`, its ImageNet weights downloaded on first use.

    Raises:
        HwlError: the weights cannot be downloaded.
    """
    try:
        return build(weights=weights)
    except OSError as error:
        url = weights.url if weights else ""
        raise HwlError(
            f"torchvision's ImageNet weights could not be fetched from {url} ({error}); fetch the "
            "file elsewhere and put it in ~/.cache/torch/hub/checkpoints"
        ) from error


def unit_names(units: Iterable[str], backbone: nn.Module) -> dict[str, str]:
    """mmpose's module names to those of a torchvision backbone, for `load_weights`.

    Args:
        units: mmpose's names of the convolution units in the order of the forward pass; each is
            a `conv` and a `bn` there.
        backbone: the same model by torchvision, whose convolutions and normalizations, in the
            order of definition, are those.
    """
    theirs = [f"{unit}.{part}" for unit in units for part in ("conv", "bn")]
    kinds = nn.Conv2d | nn.BatchNorm2d
    ours = [name for name, part in backbone.named_modules() if isinstance(part, kinds)]
    return dict(zip(theirs, ours, strict=True))

"""Lite-HRNet (Yu et al., CVPR 2021, arXiv 2104.06403), mmpose's: a peer of the paper's comparison.

Branches of 1/4, 1/8, 1/16 and 1/32 of the input size run side by side and exchange features.
Its blocks weight channels by what all branches hold in place of mixing them by 1x1 convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from hwl.models.blocks import ConvUnit, SqueezeExcite, init_normal, relu
from hwl.models.heads import PointwiseHead
from hwl.models.pose import Parts

STEM = 32
WIDTHS = (40, 80, 160, 320)  # channels of the branches, the finest first
BLOCKS = 2  # weighting blocks a module
CROSS_RATIO = 8  # channels to hidden channels of the weights across resolutions
SPATIAL_RATIO = 4  # the same of the weights within a branch


def _shuffle_halves(first: Tensor, second: Tensor) -> Tensor:
    """Channels of two (N, C, H, W) tensors in turn, (N, 2C, H, W)."""
    return torch.stack([first, second], dim=2).flatten(1, 2)


def _separable(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """A depthwise 3x3 and a 1x1 convolution, both normalized and without activation."""
    return nn.Sequential(
        nn.Conv2d(in_channels, in_channels, 3, stride, 1, groups=in_channels, bias=False),
        nn.BatchNorm2d(in_channels),
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        nn.BatchNorm2d(out_channels),
    )


class Stem(nn.Module):
    """(N, 3, H, W) -> (N, 32, H/4, W/4): a convolution, then a shuffled two-branch block."""

    def __init__(self) -> None:
        super().__init__()
        half = STEM // 2
        self.conv1 = ConvUnit(3, STEM, 3, 2, activation=relu)
        self.branch1 = nn.Sequential(
            ConvUnit(half, half, 3, 2, groups=half), ConvUnit(half, half, activation=relu)
        )
        self.expand_conv = ConvUnit(half, STEM, activation=relu)
        self.depthwise_conv = ConvUnit(STEM, STEM, 3, 2, groups=STEM)
        self.linear_conv = ConvUnit(STEM, half, activation=relu)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 32, H/4, W/4)."""
        x1, x2 = self.conv1(x).chunk(2, dim=1)
        x2 = self.linear_conv(self.depthwise_conv(self.expand_conv(x2)))
        return _shuffle_halves(self.branch1(x1), x2)


class CrossResolutionWeighting(nn.Module):
    """Weights every branch, at the coarsest one's resolution, by what all of them hold."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.widths = list(widths)
        total = sum(widths)
        self.conv1 = ConvUnit(total, total // CROSS_RATIO, activation=relu)
        self.conv2 = ConvUnit(total // CROSS_RATIO, total, activation=nn.Sigmoid)

    def forward(self, branches: Sequence[Tensor]) -> list[Tensor]:
        """Branches (N, C_i, H_i, W_i) -> the same shapes."""
        coarsest = (branches[-1].shape[-2], branches[-1].shape[-1])
        pooled = [functional.adaptive_avg_pool2d(branch, coarsest) for branch in branches]
        weights = self.conv2(self.conv1(torch.cat(pooled, dim=1))).split(self.widths, dim=1)
        # By index here and below: while a model is traced, what was split cannot be iterated.
        return [
            branch * functional.interpolate(weights[i], size=branch.shape[-2:], mode="nearest")
            for i, branch in enumerate(branches)
        ]


class ConditionalChannelWeighting(nn.Module):
    """A shuffle unit whose 1x1 convolutions are channel weights, across and within branches."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        halves = [width // 2 for width in widths]
        self.cross_resolution_weighting = CrossResolutionWeighting(halves)
        self.depthwise_convs = nn.ModuleList(
            ConvUnit(half, half, 3, groups=half) for half in halves
        )
        self.spatial_weighting = nn.ModuleList(
            SqueezeExcite(half, half // SPATIAL_RATIO, nn.Sigmoid) for half in halves
        )

    def forward(self, branches: Sequence[Tensor]) -> list[Tensor]:
        """Branches (N, C_i, H_i, W_i) -> the same shapes."""
        halves = [branch.chunk(2, dim=1) for branch in branches]
        changed = self.cross_resolution_weighting([half[1] for half in halves])
        steps = zip(halves, changed, self.depthwise_convs, self.spatial_weighting, strict=True)
        return [_shuffle_halves(half[0], weight(conv(x))) for half, x, conv, weight in steps]


def _fuse_layer(source: int, target: int) -> nn.Module:
    """Brings branch `source` to the channels and the size of branch `target`."""
    if source == target:
        return nn.Identity()
    channels, out_channels = WIDTHS[source], WIDTHS[target]
    if source > target:
        return nn.Sequential(
            nn.Conv2d(channels, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.Upsample(scale_factor=2 ** (source - target), mode="nearest"),
        )
    halvings = [_separable(channels, channels, 2).append(relu()) for _ in range(source + 1, target)]
    return nn.Sequential(*halvings, _separable(channels, out_channels, 2))


class LiteModule(nn.Module):
    """Weighting blocks, then a fusion in which every branch receives all the others."""

    def __init__(self, branches: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(ConditionalChannelWeighting(WIDTHS[:branches]) for _ in range(BLOCKS))
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_fuse_layer(source, target) for source in range(branches))
            for target in range(branches)
        )
        self.relu = nn.ReLU()

    def forward(self, branches: Sequence[Tensor]) -> list[Tensor]:
        """Branches (N, C_i, H_i, W_i) -> the same shapes."""
        branches = self.layers(branches)
        fused: list[Tensor] = []
        for layers in self.fuse_layers:
            # As published, and as the published weights need it: the finest branch enters every
            # sum twice, and enters those of the coarser branches in its own fused state.
            of_target = cast(nn.ModuleList, layers)  # what iterating says of its parts is less
            total = of_target[0](branches[0])
            for layer, branch in zip(of_target, branches, strict=True):
                total = total + layer(branch)
            if not fused:
                branches = [total, *branches[1:]]
            fused.append(total)
        return [self.relu(total) for total in fused]


class IterativeHead(nn.Module):
    """From the coarsest branch to the finest: add the result so far, enlarged, and project."""

    def __init__(self) -> None:
        super().__init__()
        targets = [*WIDTHS[-2::-1], WIDTHS[0]]
        self.projects = nn.ModuleList()
        for channels, target in zip(reversed(WIDTHS), targets, strict=True):
            project = nn.Sequential()
            project.depthwise_conv = ConvUnit(channels, channels, 3, groups=channels)
            project.pointwise_conv = ConvUnit(channels, target, activation=relu)
            self.projects.append(project)

    def forward(self, branches: Sequence[Tensor]) -> Tensor:
        """Branches (N, C_i, H_i, W_i), the finest first -> (N, C_0, H_0, W_0)."""
        x = self.projects[0](branches[-1])
        for project, branch in zip(self.projects[1:], branches[-2::-1], strict=True):
            size = branch.shape[-2:]
            enlarged = functional.interpolate(x, size=size, mode="bilinear", align_corners=True)
            x = project(branch + enlarged)
        return x


class LiteHRNet(nn.Module):
    """(N, 3, H, W) -> (N, 40, H/4, W/4).

    Args:
        modules: modules of the three stages, which have two, three and four branches:
            (2, 4, 2) for Lite-HRNet-18, (3, 8, 3) for Lite-HRNet-30.
    """

    out_channels = WIDTHS[0]

    def __init__(self, modules: tuple[int, int, int]) -> None:
        super().__init__()
        self.stem = Stem()
        self.transition0 = nn.ModuleList(
            [
                _separable(STEM, WIDTHS[0], 1).append(relu()),
                nn.Sequential(_separable(STEM, WIDTHS[1], 2).append(relu())),
            ]
        )
        self.stage0 = nn.Sequential(*(LiteModule(2) for _ in range(modules[0])))
        self.transition1 = self._new_branch(2)
        self.stage1 = nn.Sequential(*(LiteModule(3) for _ in range(modules[1])))
        self.transition2 = self._new_branch(3)
        self.stage2 = nn.Sequential(*(LiteModule(4) for _ in range(modules[2])))
        self.head_layer = IterativeHead()
        init_normal(self)

    @staticmethod
    def _new_branch(branch: int) -> nn.ModuleDict:
        layer = _separable(WIDTHS[branch - 1], WIDTHS[branch], 2).append(relu())
        return nn.ModuleDict({str(branch): nn.Sequential(layer)})

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 40, H/4, W/4)."""
        x = self.stem(x)
        branches = self.stage0([layer(x) for layer in self.transition0])
        branches = self.stage1([*branches, self.transition1["2"](branches[-1])])
        branches = self.stage2([*branches, self.transition2["3"](branches[-1])])
        return self.head_layer(branches)


def litehrnet18(num_keypoints: int) -> Parts:
    """Lite-HRNet-18 and its head for K keypoints."""
    return LiteHRNet((2, 4, 2)), PointwiseHead(LiteHRNet.out_channels, num_keypoints)


def litehrnet30(num_keypoints: int) -> Parts:
    """Lite-HRNet-30 and its head for K keypoints."""
    return LiteHRNet((3, 8, 3)), PointwiseHead(LiteHRNet.out_channels, num_keypoints)

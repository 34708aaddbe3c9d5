"""Exact rewrites of a trained network: the same function in fewer and cheaper operations.

What they save is time on a CPU. A network rewritten so is for inference alone.
"""

from __future__ import annotations

import copy
import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from hwl.models.attention import FullAttention
from hwl.models.heads import DeconvHead
from hwl.models.pose import PoseNet


class ChannelShift(nn.Module):
    """x + shift, in place: what is left of a BN whose scale went into the weights before it."""

    def __init__(self, shift: Tensor) -> None:
        super().__init__()
        self.shift = nn.Parameter(shift.reshape(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return x.add_(self.shift)


def fold(model: PoseNet) -> PoseNet:
    """A copy of a network in evaluation mode whose BN layers are part of the convolutions.

    BN of fixed statistics is a scale and a shift a channel. The scale goes into the weights of the
    convolution before, the shift into its bias. A transposed convolution keeps the shift apart: a
    depthwise one with bias is many times slower in PyTorch than one without.
    """
    folded = copy.deepcopy(model).eval().requires_grad_(False)
    for block in list(folded.modules()):
        if not isinstance(block, nn.Sequential):
            continue
        for (name, layer), (next_name, norm) in itertools.pairwise(list(block.named_children())):
            if not isinstance(norm, nn.BatchNorm2d):
                continue
            if isinstance(layer, nn.Conv2d):
                setattr(block, name, fuse_conv_bn_eval(layer, norm))
                setattr(block, next_name, nn.Identity())
            elif isinstance(layer, nn.ConvTranspose2d):
                setattr(block, next_name, _fold_transposed(layer, norm))
    return folded


def _fold_transposed(layer: nn.ConvTranspose2d, norm: nn.BatchNorm2d) -> ChannelShift:
    """Scale the weights of a transposed convolution without bias; the shift that is left."""
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    # Weights are (in, out / groups, k, k): an input channel meets the outputs of its group.
    per_group = scale.view(layer.groups, 1, -1, 1, 1)
    weight = layer.weight.view(layer.groups, -1, *layer.weight.shape[1:])
    layer.weight.copy_((weight * per_group).view_as(layer.weight))
    return ChannelShift(norm.bias - norm.running_mean * scale)


class AttendedHeatmaps(nn.Module):
    """The paper's attention and the last 1x1 convolution as one matrix product a picture.

    With W the convolution, W (x (1 + C + S)) = (W (1 + C)) x + S (W x): the channel gate C scales a
    few weights, the spatial gate S a few heatmaps, and neither the 256 channels in between. The
    spatial gate's own 1x1 convolution is one more row of the same product.
    """

    def __init__(self, attention: FullAttention, final_layer: nn.Conv2d) -> None:
        super().__init__()
        self.channel, self.spatial = attention.se, attention.sse
        self.final_layer = final_layer

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) features -> (N, K, H, W) heatmaps."""
        weight = self.final_layer.weight.flatten(1)
        scaled = weight * (1 + self.channel.gate(x)).flatten(2).mT
        reduce, activation = self.spatial.conv1.conv, self.spatial.conv1.activation
        plain = torch.cat([weight, reduce.weight.flatten(1)]).expand(len(x), -1, -1)
        product = torch.cat([scaled, plain], dim=1) @ x.flatten(2)
        attended, plain, first = product.split([len(weight), len(weight), 1], dim=1)
        maps = activation(first.unflatten(2, x.shape[2:]) + reduce.bias)
        gate = self.spatial.conv2(maps).flatten(2)
        heatmaps = attended + gate * plain + self.final_layer.bias[:, None]
        return heatmaps.unflatten(2, x.shape[2:])


def merge_attention(folded: PoseNet) -> PoseNet:
    """A folded network's copy with AttendedHeatmaps, where its head ends with that attention."""
    if not isinstance(folded.head, DeconvHead):
        return folded
    if not isinstance(folded.head.deconv_layers[-1], FullAttention):
        return folded
    merged = copy.deepcopy(folded)
    head = merged.head
    head.final_layer = AttendedHeatmaps(head.deconv_layers[-1], head.final_layer)
    head.deconv_layers = head.deconv_layers[:-1]
    return merged


def equalise(folded: PoseNet, crops: Tensor) -> PoseNet:
    """A folded network's copy whose lite head has channels of equal range, before int8.

    Int8 has one scale for all channels of an activation, and the loudest one sets it. Between a
    depthwise transposed convolution and the 1x1 convolution that follows its ReLU, each channel can
    be divided by its peak and the next weights multiplied by it: the function stays the same
    (cross-layer equalisation, Nagel et al., ICCV 2019).

    Args:
        folded: from `fold`; a network without a lite head is returned as it is.
        crops: (M, 3, H, W) normalised crops to take the peaks from.
    """
    if not isinstance(folded.head, DeconvHead):
        return folded
    equal = copy.deepcopy(folded)
    layers = list(equal.head.deconv_layers)
    fours = zip(layers, layers[1:], layers[2:], layers[3:], strict=False)
    kinds = (nn.ConvTranspose2d, ChannelShift, nn.ReLU, nn.Conv2d)
    stages = [
        four
        for four in fours
        if all(map(isinstance, four, kinds)) and four[0].groups == four[0].in_channels
    ]
    with torch.inference_mode():
        for transposed, shift, activation, pointwise in stages:
            peaks = _channel_peaks(equal, activation, crops).clone().view(-1, 1, 1, 1)
            transposed.weight.div_(peaks)
            shift.shift.div_(peaks.view(1, -1, 1, 1))
            pointwise.weight.mul_(peaks.view(1, -1, 1, 1))
    return equal


def _channel_peaks(model: PoseNet, layer: nn.Module, crops: Tensor) -> Tensor:
    """Each channel's largest output of a layer, (C,); a silent channel's is not below 1/1000th."""
    peaks: list[Tensor] = []
    hook = layer.register_forward_hook(lambda _, __, output: peaks.append(output.amax((0, 2, 3))))
    for part in crops.split(16):
        model(part)
    hook.remove()
    highest = torch.stack(peaks).amax(0)
    return highest.clamp_min(1e-3 * float(highest.max()))


# Which of the four taps of a stride-2 kernel reach an even and an odd output pixel, in the order of
# the input pixels that they weigh: the one before and this one, or this one and the next.
TAPS = ((3, 1), (2, 0))


class Phases(nn.Module):
    """A depthwise 4x4 stride-2 transposed convolution as four depthwise 2x2 convolutions.

    Output pixels of even and odd row and column see different halves of the kernel and never
    zeros in between, so each of these four phases is a small convolution of the input. Where low
    precision has no kernel for transposed convolutions, it has one for these.
    """

    def __init__(self, layer: nn.ConvTranspose2d) -> None:
        super().__init__()
        self.convs = nn.ModuleList()
        for rows in TAPS:
            for columns in TAPS:
                channels = layer.in_channels
                conv = nn.Conv2d(channels, channels, 2, groups=channels, bias=False)
                conv.weight = nn.Parameter(layer.weight[:, :, rows][..., columns])
                self.convs.append(conv)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, C, H, W) -> even rows' even and odd columns, odd rows' likewise, each that shape."""
        left, right, top, bottom = (1, 0), (0, 1), (1, 0), (0, 1)
        pads = [columns + rows for rows in (top, bottom) for columns in (left, right)]
        return [conv(functional.pad(x, pad)) for conv, pad in zip(self.convs, pads, strict=True)]


def interleave(phases: list[Tensor]) -> Tensor:
    """Four phases (N, C, H, W) -> the picture (N, C, 2H, 2W) they are of."""
    return functional.pixel_shuffle(torch.stack(phases, dim=2).flatten(1, 2), 2)


class PhasedHead(nn.Module):
    """DeconvHead whose last stage works on the four phases of its transposed convolution.

    All that follows works on each pixel alone, save the 3x3 convolution of the spatial gate. So
    the phases are put together for that one-channel map and for the K heatmaps, not for the 256
    channels in between.
    """

    def __init__(self, head: DeconvHead) -> None:
        super().__init__()
        layers = list(head.deconv_layers)
        last = _last_transposed(head)
        self.before = nn.Sequential(*layers[:last])
        self.phases = Phases(layers[last])
        self.attention = layers.pop() if isinstance(layers[-1], FullAttention) else None
        self.pointwise = nn.Sequential(*layers[last + 1 :])
        self.final_layer = head.final_layer

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H/32, W/32) features -> (N, K, H/4, W/4) heatmaps."""
        phases = [self.pointwise(phase) for phase in self.phases(self.before(features))]
        if self.attention is not None:
            phases = self._attend(phases)
        return interleave([self.final_layer(phase) for phase in phases])

    def _attend(self, phases: list[Tensor]) -> list[Tensor]:
        channel, spatial = self.attention.se, self.attention.sse
        pooled = sum(channel.pool(phase) for phase in phases) / len(phases)
        gate = 1 + channel.conv2(channel.conv1(pooled))
        maps = spatial.conv2(interleave([spatial.conv1(phase) for phase in phases]))
        parts = functional.pixel_unshuffle(maps, 2).chunk(len(phases), dim=1)
        return [phase * (gate + part) for phase, part in zip(phases, parts, strict=True)]


def _last_transposed(head: DeconvHead) -> int:
    layers = head.deconv_layers
    return max(i for i, layer in enumerate(layers) if isinstance(layer, nn.ConvTranspose2d))


def defer_interleaving(model: PoseNet) -> PoseNet:
    """A folded network's copy whose last stage works on phases, where that is the same function.

    It is for a depthwise transposed convolution followed by pixelwise layers and, perhaps, the
    paper's attention; other networks are returned as they are.
    """
    head = model.head
    if not isinstance(head, DeconvHead):
        return model
    last = _last_transposed(head)
    layer, *rest = head.deconv_layers[last:]
    depthwise = layer.in_channels == layer.out_channels == layer.groups
    if rest and isinstance(rest[-1], FullAttention):
        rest.pop()
    if not depthwise or not all(_is_pixelwise(part) for part in rest):
        return model
    phased = copy.deepcopy(model)
    phased.head = PhasedHead(phased.head)
    return phased


def _is_pixelwise(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d):
        return layer.kernel_size == (1, 1)
    return isinstance(layer, nn.Identity | nn.ReLU | ChannelShift | nn.BatchNorm2d)

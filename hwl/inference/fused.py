"""A trained model fused exactly: the same function in fewer and cheaper operations.

What it saves is time on a CPU. A model fused so is for inference alone.
"""

from __future__ import annotations

import copy
import itertools
import operator
from typing import TypeGuard

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from hwl.models.attention import FullAttention
from hwl.models.blocks import SqueezeExcite
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
    """A copy of a model in evaluation mode whose BN layers are part of the convolutions.

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
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    # Weights are (in, out / groups, k, k): an input channel meets the outputs of its group.
    per_group = scale.view(layer.groups, 1, -1, 1, 1)
    weight = layer.weight.view(layer.groups, -1, *layer.weight.shape[1:])
    layer.weight.copy_((weight * per_group).view_as(layer.weight))
    return ChannelShift(norm.bias - norm.running_mean * scale)


def _pixels(phases: Tensor, side: int) -> Tensor:
    """(side^2 N, C, H, W) -> (side^2, N, H, W, C), nothing moved where channels come last."""
    return phases.permute(0, 2, 3, 1).unflatten(0, (side * side, -1))


def _images(pixels: Tensor, side: int) -> Tensor:
    """(side^2, N, H, W, C) -> (N, C, side H, side W), the phases put together."""
    blocks = pixels.unflatten(0, (side, side)).permute(2, 3, 0, 4, 1, 5)
    return blocks.flatten(3, 4).flatten(1, 2).permute(0, 3, 1, 2)


class AttendedHeatmaps(nn.Module):
    """The paper's attention and the last 1x1 convolution as one matrix product an image.

    With W the convolution, W (x (1 + C + S)) = (W (1 + C)) x + S (W x): the channel gate C scales a
    few weights, the spatial gate S a few heatmaps, and neither the 256 channels in between. The
    spatial gate's own 1x1 convolution is one more column of the same product.
    """

    def __init__(self, attention: FullAttention, final_layer: nn.Conv2d) -> None:
        super().__init__()
        self.channel, self.spatial = attention.se, attention.sse
        self.final_layer = final_layer
        self.side = 1  # SIDE where the features come in phases, as `work_on_phases` makes them

    def forward(self, x: Tensor) -> Tensor:
        """(side^2 N, C, H, W) features -> (N, K, side H, side W) heatmaps."""
        pooled = self.channel.pool(x).unflatten(0, (self.side**2, -1)).mean(0)
        gate = 1 + self.channel.conv2(self.channel.conv1(pooled)).flatten(2)
        weight = self.final_layer.weight.flatten(1).T
        reduce, activation = self.spatial.conv1.conv, self.spatial.conv1.activation
        plain = torch.cat([weight, reduce.weight.flatten(1).T], dim=1)
        weights = torch.cat([gate * weight, plain.expand(gate.shape[0], -1, -1)], dim=2)

        product = _pixels(x, self.side).flatten(2, 3) @ weights
        product = product.unflatten(2, x.shape[2:])
        keypoints = weight.shape[1]
        attended, plain, first = product.split([keypoints, keypoints, 1], dim=4)
        maps = self.spatial.conv2(_images(activation(first + reduce.bias), self.side))
        spatial = functional.pixel_unshuffle(maps, self.side).transpose(0, 1)[..., None]
        return _images(attended + spatial * plain + self.final_layer.bias, self.side)


def merge_attention(folded: PoseNet) -> PoseNet:
    """A folded model's copy with AttendedHeatmaps, where its head ends with that attention."""
    if not isinstance(folded.head, DeconvHead):
        return folded
    merged = copy.deepcopy(folded)
    head = merged.head
    assert isinstance(head, DeconvHead)
    attention, last = head.deconv_layers[-1], head.final_layer
    if not isinstance(attention, FullAttention) or not isinstance(last, nn.Conv2d):
        return folded
    head.final_layer = AttendedHeatmaps(attention, last)
    head.deconv_layers = head.deconv_layers[:-1]
    return merged


class _WholeTracer(fx.Tracer):
    """Traces a module down to torch's functions."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        """No module is left whole."""
        return False


def unroll(folded: PoseNet) -> PoseNet:
    """A folded model's copy that calls torch's functions one after the other, without modules.

    Going from module to module takes about a tenth of one image's time in eager PyTorch.
    """
    unrolled = copy.deepcopy(folded)
    for part in ("backbone", "head"):
        module = getattr(unrolled, part)
        graph = _WholeTracer().trace(module)
        tensors: dict[str, Tensor] = {}
        for node in graph.find_nodes(op="get_attr"):
            # All in one place: a tensor in nested modules would be looked for in each of them.
            name = f"tensor{len(tensors)}"
            tensors[name], node.target = operator.attrgetter(node.target)(module), name
        setattr(unrolled, part, fx.GraphModule(tensors, graph))
    return unrolled


class LinearGate(nn.Module):
    """Squeeze-excite whose 1x1 convolutions, of a single pixel, are linear layers."""

    def __init__(self, squeeze_excite: SqueezeExcite) -> None:
        super().__init__()
        self.layers = nn.Sequential()
        for unit in (squeeze_excite.conv1, squeeze_excite.conv2):
            linear = nn.Linear(unit.conv.in_channels, unit.conv.out_channels)
            assert unit.conv.bias is not None
            linear.weight = nn.Parameter(unit.conv.weight.flatten(1))
            linear.bias = nn.Parameter(unit.conv.bias)
            self.layers.extend([linear, unit.activation])

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return x * self.layers(x.mean((2, 3)))[..., None, None]


def gates_as_linear_layers(folded: PoseNet) -> PoseNet:
    """A folded model's copy whose backbone has `LinearGate`s for squeeze-excite, before int8.

    nncf leaves the convolutions of such a block in float32. In "ours" they hold two fifths of all
    weights, whose reading would then take a tenth of the int8 model's time.
    """
    linear = copy.deepcopy(folded)
    for parent in list(linear.backbone.modules()):
        for name, block in parent.named_children():
            if isinstance(block, SqueezeExcite):
                setattr(parent, name, LinearGate(block))
    return linear


def equalize(folded: PoseNet, crops: Tensor) -> PoseNet:
    """A folded model's copy whose lite head has channels of equal range, before int8.

    Int8 has one scale for all channels of an activation, and the loudest one sets it. Between a
    depthwise transposed convolution and the 1x1 convolution that follows its ReLU, each channel can
    be divided by its peak and the next weights multiplied by it: the function stays the same
    (cross-layer equalization, Nagel et al., ICCV 2019).

    Args:
        folded: from `fold`; a model without a lite head is returned as it is.
        crops: (M, 3, H, W) normalized crops to take the peaks from.
    """
    if not isinstance(folded.head, DeconvHead):
        return folded
    equal = copy.deepcopy(folded)
    assert isinstance(equal.head, DeconvHead)
    layers = list(equal.head.deconv_layers)
    fours = zip(layers, layers[1:], layers[2:], layers[3:], strict=False)
    kinds = (nn.ConvTranspose2d, ChannelShift, nn.ReLU, nn.Conv2d)
    stages = [
        four
        for four in fours
        if all(map(isinstance, four, kinds)) and _is_depthwise_transposed(four[0])
    ]
    with torch.inference_mode():
        for transposed, shift, activation, pointwise in stages:
            peaks = _channel_peaks(equal, activation, crops).clone().view(-1, 1, 1, 1)
            for tensor, factor in (
                (transposed.weight, 1 / peaks),
                (shift.shift, 1 / peaks.view(1, -1, 1, 1)),
                (pointwise.weight, peaks.view(1, -1, 1, 1)),
            ):
                assert isinstance(tensor, Tensor)
                tensor.mul_(factor)
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
SIDE = len(TAPS)


class Phases(nn.Module):
    """A depthwise 4x4 stride-2 transposed convolution as four depthwise 2x2 convolutions.

    Output pixels of even and odd row and column see different halves of the kernel and never
    zeros in between, so each of these four phases is a small convolution of the input. The engines
    have fast kernels for these, beside int8 layers too. The phases come as a batch four times as
    large, so that pixelwise layers work on it as they would on the image.
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

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (4N, C, H, W): even rows' even and odd columns, odd rows' likewise."""
        left, right, top, bottom = (1, 0), (0, 1), (1, 0), (0, 1)
        pads = [columns + rows for rows in (top, bottom) for columns in (left, right)]
        phases = [conv(functional.pad(x, pad)) for conv, pad in zip(self.convs, pads, strict=True)]
        return torch.cat(phases)


class Interleave(nn.Module):
    """Puts the four phases of images together."""

    def forward(self, phases: Tensor) -> Tensor:
        """(4N, C, H, W) -> (N, C, 2H, 2W)."""
        return _images(_pixels(phases, SIDE), SIDE)


def work_on_phases(folded: PoseNet) -> PoseNet:
    """A folded model's copy that computes depthwise transposed convolutions by `Phases`.

    The phases are put together as late as can be, where a layer follows that looks at more than a
    pixel. After the last stage there is none: with the paper's attention, merged, or without any,
    it is done for the K heatmaps and not for the 256 channels before. Models without such a
    convolution are returned as they are.
    """
    if not isinstance(folded.head, DeconvHead):
        return folded
    if not any(map(_is_depthwise_transposed, folded.head.deconv_layers)):
        return folded
    phased = copy.deepcopy(merge_attention(folded))
    head, parts, apart = phased.head, nn.Sequential(), False
    assert isinstance(head, DeconvHead)
    for name, layer in [*head.deconv_layers.named_children(), ("final_layer", head.final_layer)]:
        if apart and isinstance(layer, AttendedHeatmaps):
            layer.side, apart = SIDE, False
        elif apart and not _is_pixelwise(layer):
            parts.add_module(f"before_{name}", Interleave())
            apart = False
        if _is_depthwise_transposed(layer):
            layer, apart = Phases(layer), True
        parts.add_module(name, layer)
    if apart:
        parts.add_module("heatmaps", Interleave())
    phased.head = parts
    return phased


def _is_depthwise_transposed(layer: nn.Module) -> TypeGuard[nn.ConvTranspose2d]:
    if not isinstance(layer, nn.ConvTranspose2d):
        return False
    return layer.groups == layer.in_channels == layer.out_channels


def _is_pixelwise(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d):
        return layer.kernel_size == (1, 1)
    return isinstance(layer, nn.Identity | nn.ReLU | ChannelShift)

"""Fused models: the same heatmaps, from fewer operations."""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hwl.inference.fused import (
    Interleave,
    LinearGate,
    Phases,
    equalize,
    fold,
    gates_as_linear_layers,
    merge_attention,
    unroll,
    work_on_phases,
)
from hwl.models import MODELS, PoseNet, create_model
from hwl.models.blocks import SqueezeExcite

# Lite-HRNet-30 has the blocks of Lite-HRNet-18, and more of them.
DIFFERENT = [name for name in MODELS if name != "litehrnet30"]
Attention = tuple[str, str, str]


@cache
def trained_like(name: str, attention: Attention | None = None) -> PoseNet:
    """A float64 model whose BN layers do something and whose weights are not tiny.

    In float32 the deep ones among these amplify rounding. Tests share it, and leave it as it is.
    """
    torch.manual_seed(0)
    options = {} if attention is None else {"attention": attention}
    model = create_model(name, num_keypoints=5, **options).eval()
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.reset_parameters()
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.1, 0.5)
    return model.double()


@cache
def folded_like(name: str, attention: Attention | None = None) -> PoseNet:
    """Folded, and shared in the same way."""
    return fold(trained_like(name, attention))


def images() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, 64, 96, generator=generator, dtype=torch.float64)


def relative_difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())


@pytest.mark.parametrize("name", DIFFERENT)
def test_a_folded_model_gives_the_same_heatmaps(name: str) -> None:
    model, folded = trained_like(name), folded_like(name)

    with torch.inference_mode():
        difference = relative_difference(folded(images()), model(images()))

    assert difference < 1e-9


@pytest.mark.parametrize("name", DIFFERENT)
def test_a_folded_model_has_no_batch_normalization_left(name: str) -> None:
    folded = folded_like(name)

    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())


def test_folding_leaves_the_model_as_it_was() -> None:
    model = copy.deepcopy(trained_like("ours")).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}

    fold(model)

    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_four_small_convolutions_are_the_transposed_one() -> None:
    layer = nn.ConvTranspose2d(6, 6, 4, 2, 1, groups=6, bias=False)
    x = torch.randn(2, 6, 5, 7)

    with torch.inference_mode():
        together = Interleave()(Phases(layer)(x))

        assert torch.allclose(together, layer(x), atol=1e-6)


def test_phases_are_put_together_pixel_by_pixel() -> None:
    image = torch.arange(2 * 3 * 4 * 6).reshape(2, 3, 4, 6)
    phases = [image[:, :, row::2, column::2] for row in (0, 1) for column in (0, 1)]

    assert torch.equal(Interleave()(torch.cat(phases)), image)


@pytest.mark.parametrize(
    ("name", "attention"),
    [
        ("ours", None),
        ("ours", ("none", "none", "none")),
        ("ours", ("full", "full", "full")),
        ("ours", ("none", "none", "cbam")),
        ("vipnas_mbv3", None),
    ],
)
def test_a_head_that_works_on_phases_gives_the_same_heatmaps(
    name: str, attention: Attention | None
) -> None:
    folded = folded_like(name, attention)

    phased = work_on_phases(folded)

    assert any(isinstance(layer, Phases) for layer in phased.head)
    with torch.inference_mode():
        assert relative_difference(phased(images()), folded(images())) < 1e-9


@pytest.mark.parametrize("name", ["mobilenetv2", "litehrnet18"])
def test_a_head_without_depthwise_transposed_convolutions_stays_as_it_is(name: str) -> None:
    folded = folded_like(name)

    assert work_on_phases(folded) is folded


@pytest.mark.parametrize("attention", ["none", "full"])
def test_phases_of_the_last_stage_are_put_together_for_the_heatmaps_alone(attention: str) -> None:
    folded = folded_like("ours", ("none", "none", attention))
    widths = []

    for part in (head := work_on_phases(folded).head):
        if isinstance(part, Interleave):
            part.register_forward_hook(lambda _, inputs, __: widths.append(inputs[0].shape[1]))
    with torch.inference_mode():
        head(torch.randn(1, 960, 2, 3, dtype=torch.float64))

    assert widths == [256, 256] + [5] * (attention == "none")


def test_folding_scales_each_group_of_a_transposed_convolution_by_its_own_channels() -> None:
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(8, 6, 4, 2, 1, groups=2, bias=False)
    norm = nn.BatchNorm2d(6).eval()
    nn.init.uniform_(norm.weight, 0.5, 2)
    norm.running_var.uniform_(0.1, 2)
    norm.running_mean.normal_()
    holder = PoseNet(nn.Identity(), nn.Sequential(layer, norm), {})
    x = torch.randn(1, 8, 32, 32)

    with torch.inference_mode():
        plain = functional.batch_norm(
            layer(x), norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
        )

        assert torch.allclose(fold(holder)(x), plain, atol=1e-5)


def test_equalized_channels_have_equal_peaks() -> None:
    folded = folded_like("ours")
    assert last_peaks(folded).max() > 2 * last_peaks(folded).median()

    peaks = last_peaks(equalize(folded, images()))

    alive = peaks[peaks > 0.01]  # a ReLU of a random model may be silent, or nearly so
    assert len(alive) > 100
    assert float((alive - 1).abs().median()) < 1e-9
    assert peaks.max() < 1 + 1e-9


def last_peaks(model: PoseNet) -> Tensor:
    """The largest value of each channel behind the last transposed convolution, (256,)."""
    seen: list[Tensor] = []
    layers = model.head.deconv_layers
    last = max(i for i, layer in enumerate(layers) if isinstance(layer, nn.ConvTranspose2d))
    hook = layers[last + 2].register_forward_hook(lambda _, __, y: seen.append(y.amax((0, 2, 3))))
    with torch.inference_mode():
        model(images())
    hook.remove()
    return seen[-1]


@pytest.mark.parametrize(
    ("name", "attention", "merges"),
    [
        ("ours", None, True),
        ("ours", ("none", "none", "channel"), False),
        ("mobilenetv2", None, False),
        ("litehrnet18", None, False),
    ],
)
def test_attention_in_one_product_gives_the_same_heatmaps(
    name: str, attention: Attention | None, merges: bool
) -> None:
    folded = folded_like(name, attention)

    merged = merge_attention(folded)

    assert (merged is not folded) == merges
    with torch.inference_mode():
        assert relative_difference(merged(images()), folded(images())) < 1e-9


@pytest.mark.parametrize("name", ["ours", "vipnas_mbv3", "litehrnet18"])
def test_an_equalized_model_gives_the_same_heatmaps(name: str) -> None:
    folded = folded_like(name)

    with torch.inference_mode():
        difference = relative_difference(equalize(folded, images())(images()), folded(images()))

    assert difference < 1e-9


@pytest.mark.parametrize("name", ["ours", "vipnas_mbv3", "litehrnet18"])
def test_squeeze_excite_of_linear_layers_gives_the_same_heatmaps(name: str) -> None:
    folded = folded_like(name)

    linear = gates_as_linear_layers(folded)

    assert any(isinstance(layer, LinearGate) for layer in linear.modules())
    assert not any(isinstance(layer, SqueezeExcite) for layer in linear.backbone.modules())
    with torch.inference_mode():
        assert relative_difference(linear(images()), folded(images())) < 1e-9


@pytest.mark.parametrize("name", DIFFERENT)
def test_an_unrolled_model_gives_the_same_heatmaps_for_any_number_of_images(name: str) -> None:
    model = merge_attention(folded_like(name))
    unrolled = unroll(model)

    for batch in (images(), images()[:1, :, :, :64]):
        with torch.inference_mode():
            assert torch.equal(unrolled(batch), model(batch))


def test_an_unrolled_model_has_no_layers_left() -> None:
    unrolled = unroll(folded_like("ours"))

    assert [type(module).__name__ for module in unrolled.modules()] == ["PoseNet"] + 2 * [
        "GraphModule"
    ]


def test_unrolling_leaves_the_model_as_it_was() -> None:
    model = folded_like("ours")
    before = model(images())

    unroll(model)

    assert torch.equal(model(images()), before)

"""The paper's model: its counts, its function on fixed weights, its parts and its options.

The peers have a file of their own.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hwl.errors import HwlError
from hwl.models import create_model, load_weights
from hwl.models.attention import ATTENTIONS, FullAttention, attention
from hwl.models.blocks import HARD_SIGMOIDS, hard_sigmoid
from hwl.models.heads import DeconvHead

HARD_SIGMOID_FORMULAS: dict[str, Callable[[Tensor], Tensor]] = {
    "(x+3)/6": lambda x: ((x + 3) / 6).clip(0, 1),
    "(x+1)/2": lambda x: ((x + 1) / 2).clip(0, 1),
}
every_convention = pytest.mark.parametrize("convention", HARD_SIGMOID_FORMULAS)


def heatmaps(
    height: int = 64, width: int = 32, num_keypoints: int = 17, **options: object
) -> Tensor:
    """What a new "ours" with these options predicts for one random image."""
    torch.manual_seed(0)
    model = create_model("ours", num_keypoints, **options).eval()
    with torch.no_grad():
        return model(torch.randn(1, 3, height, width))


def conv_macs(model: nn.Module, height: int, width: int) -> int:
    """Multiply-accumulates of convolutions and linear layers for one image, without biases."""
    counts: list[int] = []

    def count(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        if isinstance(module, nn.ConvTranspose2d):
            # Every input element meets the whole kernel of its group once.
            per_element = module.weight[0].numel()
            counts.append(inputs[0].numel() * per_element)
        else:  # every output element is one sum over its filter
            counts.append(output.numel() * module.weight[0].numel())

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            module.register_forward_hook(count)
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, height, width))
    return sum(counts)


def rule_made_state(reference: Path) -> dict[str, Tensor]:
    """The weights of the reference outputs, by the rule in the reference folder's README."""
    shapes = json.loads((reference / "models.json").read_text())["ours"]["state_dict"]
    statistics = np.load(reference / "ours_bn_seed1.npz")
    state = {}
    for key, shape in shapes.items():
        rng = np.random.RandomState(zlib.crc32(key.encode()) ^ 1)
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(0)
            continue
        if "running_" in key:
            value = statistics[key]
        elif len(shape) == 1 and key.endswith(".weight"):
            value = rng.uniform(0.5, 1.5, shape)
        elif len(shape) == 1:
            value = 0.1 * rng.standard_normal(shape)
        else:
            value = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        state[key] = torch.tensor(value, dtype=torch.float32)
    return state


def test_ours_has_the_papers_parameters() -> None:
    parameters = sum(parameter.numel() for parameter in create_model("ours").parameters())

    assert parameters == 3_077_882


@pytest.mark.parametrize(
    ("height", "width", "expected"), [(256, 192, 558_997_088), (384, 288, 1_256_114_528)]
)
def test_ours_has_the_papers_multiply_accumulates(height: int, width: int, expected: int) -> None:
    assert conv_macs(create_model("ours"), height, width) == expected


@pytest.mark.parametrize(
    ("height", "width", "name"), [(256, 192, "ours"), (384, 288, "ours_384x288")]
)
def test_ours_agrees_with_the_reference_model(
    shared: Path, tmp_path: Path, height: int, width: int, name: str
) -> None:
    # Through a file in the authors' key style, so that their checkpoints are known to load.
    torch.save({"state_dict": rule_made_state(shared / "reference")}, tmp_path / "authors.pth")
    model = load_weights(create_model("ours"), tmp_path / "authors.pth").eval()
    expected = np.load(shared / "reference" / "models_seed1.npz")[name]
    images = np.random.RandomState(1).standard_normal((2, 3, height, width))

    with torch.no_grad():
        found = model(torch.tensor(images, dtype=torch.float32)).numpy()

    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-4 * expected.std()


@pytest.mark.parametrize("options", [{}, {"head": "dense"}, {"attention": ["full"] * 3}], ids=str)
def test_every_parameter_gets_a_gradient(options: dict[str, object]) -> None:
    # Evaluation mode: in training BN cancels the bias before it, whose gradient is then noise.
    model = create_model("ours", **options).eval()
    # Small weights and positive biases keep every gate between its ends, whatever the seed.
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() == 1:
            nn.init.uniform_(parameter, 0.5, 1)
        else:
            nn.init.normal_(parameter, std=0.2 / math.sqrt(parameter[0].numel()))

    model(torch.randn(2, 3, 64, 64)).square().sum().backward()

    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None] == []
    assert [name for name, gradient in gradients.items() if not gradient.any()] == []
    assert all(gradient.isfinite().all() for gradient in gradients.values())


@pytest.mark.parametrize(
    ("height", "width", "num_keypoints"),
    [(32, 32, 1), (64, 96, 14), (256, 256, 16), (384, 288, 17)],
)
def test_heatmaps_are_a_quarter_of_any_input(height: int, width: int, num_keypoints: int) -> None:
    found = heatmaps(height, width, num_keypoints)

    assert found.shape == (1, num_keypoints, height // 4, width // 4)


@pytest.mark.parametrize("stage", range(3))
@pytest.mark.parametrize("name", ATTENTIONS)
@pytest.mark.parametrize("kind", ["lite", "dense"])
def test_every_attention_runs_after_every_stage_of_every_head(
    kind: str, name: str, stage: int
) -> None:
    per_stage = ["none"] * 3
    per_stage[stage] = name

    # Few channels: this is about how the parts fit.
    head = DeconvHead(24, 5, kind, per_stage, "(x+3)/6", channels=8).eval()

    assert head(torch.randn(2, 24, 2, 3)).shape == (2, 5, 16, 24)
    assert sum(isinstance(part, FullAttention) for part in head.deconv_layers) == (name == "full")


@pytest.mark.parametrize(
    "options",
    [
        {"attention": ("cbam", "none", "channel")},
        {"head": "dense"},
        {"hard_sigmoid": "(x+1)/2"},
        {"backbone": "torchvision"},
        {"backbone": "torchvision", "head": "dense", "attention": ["none"] * 3},
    ],
    ids=str,
)
def test_an_option_gives_another_model_of_the_same_output(options: dict[str, object]) -> None:
    found = heatmaps(num_keypoints=14, **options)

    assert found.shape == (1, 14, 16, 8)
    assert not torch.equal(found, heatmaps(num_keypoints=14))


def test_the_torchvision_variant_has_the_parameters_measured_for_it() -> None:
    model = create_model("ours", backbone="torchvision")

    assert sum(parameter.numel() for parameter in model.parameters()) == 3_415_308


def test_imagenet_weights_that_cannot_be_fetched_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_model(weights: object) -> nn.Module:
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.models.mobilenet_v3_large", no_model)

    with pytest.raises(HwlError, match=r"mobilenet_v3_large.*\.pth.*no route to host.*put it in"):
        create_model("ours", backbone="torchvision-imagenet")


@every_convention
def test_a_hard_sigmoid_equals_its_formula(convention: str) -> None:
    x = torch.linspace(-5, 5, 1001)

    found = hard_sigmoid(convention)()(x)

    torch.testing.assert_close(found, HARD_SIGMOID_FORMULAS[convention](x))


def test_the_hard_sigmoids_are_those_with_a_formula_here() -> None:
    assert HARD_SIGMOIDS.keys() == HARD_SIGMOID_FORMULAS.keys()


@every_convention
@pytest.mark.parametrize("name", ["channel", "spatial", "squeeze-excite", "full"])
def test_attention_equals_the_sum_of_its_parts(name: str, convention: str) -> None:
    torch.manual_seed(0)
    (block,) = attention(name, 32, hard_sigmoid(convention))
    for parameter in block.parameters():
        nn.init.normal_(parameter)  # weights large enough to reach both ends of the gates
    weights = block.state_dict()
    gate = HARD_SIGMOID_FORMULAS[convention]
    x = torch.randn(2, 32, 6, 5)

    def conv(y: Tensor, key: str, padding: int = 0) -> Tensor:
        weight, bias = weights[f"{key}.conv.weight"], weights[f"{key}.conv.bias"]
        return functional.conv2d(y, weight, bias, padding=padding)

    def channel_gate() -> Tensor:
        prefix = "" if name == "squeeze-excite" else "se."
        hidden = conv(x.mean(dim=(2, 3), keepdim=True), f"{prefix}conv1").relu()
        assert hidden.shape[1] == 8
        return gate(conv(hidden, f"{prefix}conv2"))

    def spatial_gate() -> Tensor:
        return gate(conv(conv(x, "sse.conv1").relu(), "sse.conv2", padding=1))

    expected = {
        "channel": lambda: x + x * channel_gate(),
        "spatial": lambda: x + x * spatial_gate(),
        "squeeze-excite": lambda: x * channel_gate(),
        "full": lambda: x + x * channel_gate() + x * spatial_gate(),
    }[name]()
    torch.testing.assert_close(block(x), expected)


def test_cbam_equals_its_definition() -> None:
    torch.manual_seed(0)
    (block,) = attention("cbam", 8, hard_sigmoid("(x+3)/6"))
    gate = HARD_SIGMOID_FORMULAS["(x+3)/6"]
    x = torch.randn(2, 8, 9, 10)

    def mlp(y: Tensor) -> Tensor:
        first, second = block.conv1.conv, block.conv2.conv
        hidden = (functional.linear(y, first.weight[:, :, 0, 0]) + first.bias).relu()
        return functional.linear(hidden, second.weight[:, :, 0, 0]) + second.bias

    channel = gate(mlp(x.mean(dim=(2, 3))) + mlp(x.amax(dim=(2, 3))))
    y = x * channel[:, :, None, None]
    maps = torch.stack([y.mean(dim=1), y.amax(dim=1)], dim=1)
    kernel = block.spatial.conv
    assert kernel.weight.shape == (1, 2, 7, 7)
    expected = y * gate(functional.conv2d(maps, kernel.weight, kernel.bias, padding=3))

    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("kind", ["lite", "dense"])
def test_the_head_starts_with_small_weights_and_no_bias(kind: str) -> None:
    torch.manual_seed(0)
    head = create_model("ours", head=kind).head

    transposed = [part for part in head.deconv_layers if isinstance(part, nn.ConvTranspose2d)]
    assert len(transposed) == 3 and all(part.bias is None for part in transposed)
    for part in [*transposed, head.final_layer]:
        assert part.weight.std().item() == pytest.approx(0.001, rel=0.1)
    assert not head.final_layer.bias.any()


def test_batch_normalization_starts_as_the_identity() -> None:
    norms = [m for m in create_model("ours").modules() if isinstance(m, nn.BatchNorm2d)]

    assert len(norms) == 2 + 15 * 3 + 3 * 2
    for norm in norms:
        assert (norm.weight == 1).all() and not norm.bias.any()
        assert (norm.running_mean == 0).all() and (norm.running_var == 1).all()


def test_backbone_convolutions_start_kaiming_normal_by_fan_out() -> None:
    torch.manual_seed(0)
    convolutions = [m for m in create_model("ours").backbone.modules() if isinstance(m, nn.Conv2d)]

    for conv in convolutions:
        # As torch and mmcv count it, groups or not.
        fan_out = conv.out_channels * math.prod(conv.kernel_size)
        # Five standard errors of a standard deviation: the first kernels hold few numbers.
        tolerance = 5 / math.sqrt(2 * conv.weight.numel())
        assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=tolerance), (
            conv
        )
        assert conv.bias is None or not conv.bias.any()


@pytest.mark.parametrize("size", [(250, 192), (256, 190), (33, 33)])
def test_an_input_that_does_not_divide_by_32_is_refused(size: tuple[int, int]) -> None:
    model = create_model("ours")

    with pytest.raises(HwlError, match=f"{size[0]}x{size[1]}.*divide by 32"):
        model(torch.zeros(1, 3, *size))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("our", {}, "'our'.*ours"),
        ("ours", {"atention": ["none"] * 3}, "'atention'.*'attention'"),
        ("ours", {"backbon": "torchvision"}, "'backbon'.*'backbone'"),
        ("ours", {"attention": ["none", "none", "ful"]}, "'ful'.*none, channel, .*full"),
        ("ours", {"attention": ["none", "full"]}, r"\['none', 'full'\].*3 names"),
        ("ours", {"attention": "all"}, "'all': it must be a list"),
        ("ours", {"head": "deep"}, "'deep'.*lite, dense"),
        ("ours", {"backbone": "resnet"}, "'resnet'.*mobilenetv3-big, torchvision"),
        ("ours", {"hard_sigmoid": "(x+2)/4"}, r"'\(x\+2\)/4'.*\(x\+3\)/6, \(x\+1\)/2"),
        ("ours", {"num_keypoints": 0}, "num_keypoints is 0"),
    ],
    ids=str,
)
def test_an_unknown_name_or_option_is_answered_with_what_there_is(
    name: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(HwlError, match=message):
        create_model(name, **options)


def test_a_forward_pass_in_evaluation_is_repeatable_and_leaves_its_input_alone() -> None:
    torch.manual_seed(0)
    model = create_model("ours").eval()
    images = torch.randn(2, 3, 64, 64)
    before = images.clone()

    with torch.no_grad():
        first, second = model(images), model(images)

    assert torch.equal(first, second)
    assert torch.equal(images, before)

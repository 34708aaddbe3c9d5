"""ONNX files: the model's answers, in float32 exactly enough, in int8 nearly."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import Mock

import ipywidgets
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hwl.errors import HwlError
from hwl.inference import export
from hwl.inference.export import calibration_crops, onnx_bytes
from hwl.inference.runtimes import prepare
from hwl.models import Description, PoseNet
from hwl.models.heads import DeconvHead, PointwiseHead
from hwl.models.litehrnet import LiteHRNet
from hwl.skeletons import skeleton_from_category

from .each_runtime import (
    assert_an_answer_outlives_the_next_one,
    assert_it_gives_the_models_heatmaps,
    cpu_runtimes,
    skip_unless_available,
)

onnx = pytest.importorskip("onnx", reason="the runtimes' packages are not installed")
ort = pytest.importorskip("onnxruntime", reason="the runtimes' packages are not installed")
rich = pytest.importorskip("rich", reason="the runtimes' packages are not installed")

SIZE = (64, 64)


def crops(count: int) -> Tensor:
    return torch.randn(count, 3, *SIZE, generator=torch.Generator().manual_seed(3))


def answers(content: bytes, images: Tensor) -> Tensor:
    session = ort.InferenceSession(content)
    return torch.from_numpy(session.run(None, {export.INPUT: images.numpy()})[0])


@dataclass
class Exported:
    """A model and its file, from which several tests read."""

    model: PoseNet
    before: dict[str, Tensor]  # its state before the export
    content: bytes
    output_widgets: Mock | None = None  # what stood for ipywidgets' in the meantime


def exported(model: PoseNet, calibration: Tensor | None = None) -> Exported:
    before = {key: value.clone() for key, value in model.state_dict().items()}
    return Exported(model, before, onnx_bytes(model, SIZE, calibration))


@pytest.fixture(scope="module")
def float32(ordinary: Callable[..., PoseNet]) -> Exported:
    """In training mode, and with a description of another size than the file's."""
    model = ordinary("ours").train()
    face = skeleton_from_category("face", ["nose", "left_eye", "right_eye"], [])
    model.describe(Description(skeleton=face, input_size=(96, 64)))
    return exported(model)


@pytest.fixture(scope="module")
def int8(ordinary: Callable[..., PoseNet]) -> Exported:
    """Quantized as in a notebook."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ipywidgets, "Output", output := Mock())
        patch.setattr(rich.get_console(), "is_jupyter", True)
        found = exported(ordinary("ours"), crops(8))
        assert rich.get_console().is_jupyter
    return replace(found, output_widgets=output)


def assert_answers(content: bytes, model: PoseNet) -> None:
    model = copy.deepcopy(model).eval()
    for count in (1, 5):
        with torch.inference_mode():
            expected = model(crops(count))
        difference = (answers(content, crops(count)) - expected).abs().max()
        assert difference < 1e-4 * expected.abs().max()


def test_exporting_leaves_the_model_as_it_was(float32: Exported) -> None:
    assert float32.model.training
    state = float32.model.state_dict()
    assert all(torch.equal(value, float32.before[key]) for key, value in state.items())


@pytest.mark.slow
def test_a_file_answers_as_the_model_does_for_any_number_of_images(float32: Exported) -> None:
    assert_answers(float32.content, float32.model)


@pytest.mark.slow
def test_a_file_of_lite_hrnet_answers_as_the_model_does() -> None:
    torch.manual_seed(0)
    parts = (
        LiteHRNet((1, 1, 1)),
        PointwiseHead(LiteHRNet.out_channels, 3),
    )  # of eight modules, three
    model = PoseNet(*parts, {"name": "litehrnet18", "num_keypoints": 3})
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()

    assert_answers(onnx_bytes(model, SIZE), model)


def metadata(exported: Exported) -> dict[str, str]:
    props = onnx.load_from_string(exported.content).metadata_props
    return {entry.key: entry.value for entry in props}


def test_a_file_says_what_it_is(float32: Exported) -> None:
    told = metadata(float32)

    says = json.loads(told["hwl"])
    assert says["config"] == {"name": "ours", "num_keypoints": 3}
    assert says["description"]["keypoints"] == ["nose", "left_eye", "right_eye"]
    assert says["description"]["input_size"] == [96, 64]
    assert (told["input"], told["precision"]) == ("64x64", "float32")


def test_an_int8_file_says_what_it_is(int8: Exported) -> None:
    assert metadata(int8)["precision"] == "int8"


def test_quantizing_in_a_notebook_shows_no_output_widget_which_can_hang_its_run(
    int8: Exported,
) -> None:
    assert int8.output_widgets is not None and not int8.output_widgets.called


@pytest.fixture(scope="module")
def int8_without_attention() -> Exported:
    """Of a small backbone with the head of "ours"."""
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 16, 4, 4), nn.ReLU(), nn.Conv2d(16, 32, 8, 8), nn.ReLU())
    head = DeconvHead(32, 3, "lite", channels=64)
    model = PoseNet(backbone, head, {"name": "small", "num_keypoints": 3}).eval()
    for module in head.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    return exported(model, crops(4))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("which", "last", "share"),
    [("int8_without_attention", "Conv", 0.9), ("int8", "MatMul", 0.81)],
)
def test_int8_weights_take_a_byte_but_for_the_last_layers(
    which: str, last: str, share: float, request: pytest.FixtureRequest
) -> None:
    quantized: Exported = request.getfixturevalue(which)

    graph = onnx.load_from_string(quantized.content).graph

    a_byte = onnx.TensorProto.INT8
    eight = sum(np.prod(part.dims) for part in graph.initializer if part.data_type == a_byte)
    assert eight > share * sum(value.numel() for value in quantized.model.parameters())
    made_by = {output: node for node in graph.node for output in node.output}

    def operators(name: str) -> list[str]:
        """What computes a tensor, seen through what only moves it."""
        node = made_by.get(name)
        if node is not None and node.op_type in ("Reshape", "Transpose", "Concat"):
            return [found for before in node.input for found in operators(before)]
        return [] if node is None else [node.op_type]

    product = [node for node in graph.node if node.op_type == last][-1]
    assert "DequantizeLinear" not in [found for name in product.input for found in operators(name)]


def test_int8_takes_in_depthwise_convolutions_on_maps_larger_than_heatmaps(int8: Exported) -> None:
    graph = onnx.load_from_string(int8.content).graph

    from_int8 = {
        name for node in graph.node if "Dequantize" in node.op_type for name in node.output
    }
    weights = {part.name: part.dims for part in graph.initializer}
    grouped = [
        node
        for node in graph.node
        if node.op_type == "Conv"
        and next(part.i for part in node.attribute if part.name == "group") > 1
    ]
    in_float = [weights[node.input[1]][0] for node in grouped if node.input[0] not in from_int8]
    assert len(grouped) == 15 + 3 * 4
    assert min(in_float) == 72  # the first two blocks' 16 and 64 channels are in int8
    assert len(in_float) == len(grouped) - 2


# The runtimes of ONNX files, on those above.


@pytest.fixture
def made(
    float32: Exported, int8: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Has the files above exported."""
    files = {False: float32.content, True: int8.content}
    monkeypatch.setattr(export, "CACHE", tmp_path)
    monkeypatch.setattr(
        export, "onnx_bytes", lambda _, __, calibration: files[calibration is not None]
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", cpu_runtimes("float32", of_a_file=True))
def test_a_float32_runtime_gives_the_models_heatmaps_for_any_batch(
    name: str, float32: Exported, made: None
) -> None:
    skip_unless_available(name)

    runtime = prepare(float32.model, name, SIZE)

    model = copy.deepcopy(float32.model).eval()
    batches = [crops(count) for count in (1, 4, 3, 1)]
    assert_it_gives_the_models_heatmaps(runtime, model, batches)


@pytest.mark.slow
@pytest.mark.parametrize("name", cpu_runtimes("int8", of_a_file=True))
def test_an_int8_runtime_is_near_the_model_and_not_equal_to_it(
    name: str, int8: Exported, made: None
) -> None:
    skip_unless_available(name)

    found = prepare(int8.model, name, SIZE, calibration=crops(8))(crops(8))

    with torch.inference_mode():
        expected = int8.model(crops(8))
    # Random weights suffer more than trained ones; of another model the ratio would be above 1.
    assert 1e-4 < float((found - expected).std() / expected.std()) < 0.6


def test_openvino_in_bfloat16_is_near_float32_where_the_processor_has_it(
    float32: Exported, made: None
) -> None:
    skip_unless_available("openvino-bf16")

    found = prepare(float32.model, "openvino-bf16", SIZE)(crops(2))

    with torch.inference_mode():
        expected = copy.deepcopy(float32.model).eval()(crops(2))
    assert found.dtype == torch.float32 and not torch.equal(found, expected)
    assert np.corrcoef(found.numpy().ravel(), expected.numpy().ravel())[0, 1] > 0.99


def test_an_answer_of_openvino_outlives_the_next_one(float32: Exported, made: None) -> None:
    skip_unless_available("openvino")

    assert_an_answer_outlives_the_next_one(prepare(float32.model, "openvino", SIZE), crops(2))


def test_a_runtime_takes_images_that_lie_mirrored_in_memory(float32: Exported, made: None) -> None:
    skip_unless_available("openvino")
    model = prepare(float32.model, "openvino", SIZE)
    strided = crops(2).transpose(2, 3)

    assert torch.equal(model(strided), model(strided.contiguous()))


def test_an_export_that_answers_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    parts = (nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 3, 1))
    model = PoseNet(*parts, {"name": "small", "num_keypoints": 3}).eval()

    def broken(folded: PoseNet) -> PoseNet:
        folded.head.weight.mul_(1.001)
        return folded

    monkeypatch.setattr(export, "work_on_phases", broken)

    with pytest.raises(HwlError, match="answers otherwise than PyTorch"):
        onnx_bytes(model, SIZE)


def test_a_missing_package_is_named_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, ordinary: Callable[..., PoseNet]
) -> None:
    find = export.importlib.util.find_spec
    monkeypatch.setattr(
        export.importlib.util, "find_spec", lambda name: None if name == "onnx" else find(name)
    )

    with pytest.raises(HwlError, match=r"onnx is not installed: pip install 'hwl\[runtimes\]'"):
        onnx_bytes(ordinary("ours"), SIZE)


def test_calibration_takes_persons_at_even_distances(
    puppets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "CALIBRATION_PERSONS", 3)

    taken = calibration_crops(puppets, "train2017", SIZE)

    assert taken.shape == (3, 3, *SIZE)
    assert taken.dtype == torch.uint8
    assert not torch.equal(taken[0], taken[1])

"""Runtimes: the same heatmaps from every engine, and one sentence where one cannot run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hwl.errors import HwlError
from hwl.inference import export, runtimes, timing
from hwl.inference import fastest as fastest_module
from hwl.inference.fastest import fastest, ready
from hwl.inference.runtimes import RUNTIMES, FixedBatches, prepare, unavailable
from hwl.models import MODELS, PoseNet
from hwl.models.blocks import ConvUnit, hard_sigmoid, hard_swish, relu
from hwl.models.heads import DeconvHead
from hwl.models.mobilenetv3 import InvertedResidual

from .each_runtime import (
    assert_an_answer_outlives_the_next_one,
    assert_it_gives_the_models_heatmaps,
    cpu_runtimes,
    skip_unless_available,
)

SIZE = (64, 64)
CPU_INT8 = [name for name, one in RUNTIMES.items() if one.precision == "int8"]


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Exports are shared by the tests of this file and not kept."""
    patch = pytest.MonkeyPatch()
    patch.setattr(export, "CACHE", tmp_path_factory.mktemp("onnx"))
    yield
    patch.undo()


def images(count: int) -> Tensor:
    return torch.randn(count, 3, *SIZE, generator=torch.Generator().manual_seed(5))


def test_openvino_in_bfloat16_is_refused_where_the_processor_has_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    openvino = pytest.importorskip("openvino")
    monkeypatch.setattr(openvino.Core, "get_property", lambda *_: ["FP32", "INT8"])

    told = unavailable("openvino-bf16", "cpu")

    assert (
        told
        == "runtime 'openvino-bf16': this processor does not multiply in bfloat16: use 'openvino'"
    )


def one_block(num_keypoints: int) -> tuple[nn.Module, nn.Module]:
    """Parts of a model with a block of each kind that "ours" has, of few channels."""
    gate = hard_sigmoid("(x+3)/6")
    backbone = nn.Sequential(
        ConvUnit(3, 16, 3, 4, activation=hard_swish),
        InvertedResidual(16, 5, 32, 16, True, hard_swish, stride=8, gate=gate),
        InvertedResidual(16, 3, 32, 16, False, relu, stride=1, gate=gate),
    )
    return backbone, DeconvHead(16, num_keypoints, "lite", ["none", "none", "full"], channels=16)


@pytest.mark.parametrize("name", cpu_runtimes("float32", of_a_file=False))
@pytest.mark.slow
def test_a_float32_runtime_gives_the_models_heatmaps_for_any_batch(
    name: str, ordinary: Callable[..., PoseNet], monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_unless_available(name)
    monkeypatch.setitem(MODELS, "one block", one_block)
    # It takes long for each layer and each number of images.
    model, counts = ("one block", (1, 1)) if name == "compile" else ("ours", (1, 4, 3, 1))

    runtime = prepare(ordinary(model), name, SIZE)

    batches = [images(count) for count in counts]
    assert_it_gives_the_models_heatmaps(runtime, ordinary(model), batches)


# MobileNetV2's head is that of ShuffleNetV2, its backbone of layers that "ours" has too.
@pytest.mark.parametrize("model", ["shufflenetv2", "vipnas_mbv3"])
@pytest.mark.slow
def test_openvino_gives_the_peers_heatmaps(model: str, ordinary: Callable[..., PoseNet]) -> None:
    skip_unless_available("openvino")
    model = ordinary(model)

    found = prepare(model, "openvino", SIZE)(images(2))

    with torch.inference_mode():
        expected = model(images(2))
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


def test_an_answer_outlives_the_next_one(ordinary: Callable[..., PoseNet]) -> None:
    """The flip test holds the heatmaps of the crops while it asks for those of the mirrored."""
    assert_an_answer_outlives_the_next_one(prepare(ordinary(), "eager", SIZE), images(2))


def test_preparing_leaves_the_model_as_it_was(ordinary: Callable[..., PoseNet]) -> None:
    model = ordinary().train()
    before = {key: value.clone() for key, value in model.state_dict().items()}

    prepare(model, "fused", SIZE)(images(1))

    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_runtime_that_answers_otherwise_is_refused(
    monkeypatch: pytest.MonkeyPatch, ordinary: Callable[..., PoseNet]
) -> None:
    exact = runtimes.fold
    monkeypatch.setattr(runtimes, "fold", lambda model: scaled(exact(model)))

    with pytest.raises(HwlError, match=r"in runtime 'fused' .* answers otherwise"):
        prepare(ordinary(), "fused", SIZE)


def scaled(model: PoseNet) -> PoseNet:
    model.head.final_layer.weight.mul_(1.001)
    return model


@pytest.mark.parametrize("name", CPU_INT8)
def test_int8_without_calibration_images_is_one_sentence(
    name: str, ordinary: Callable[..., PoseNet]
) -> None:
    skip_unless_available(name)

    with pytest.raises(HwlError, match=f"'{name}' needs images to calibrate int8"):
        ready(ordinary(), name, SIZE, batch_size=1)


@pytest.mark.parametrize(("device", "variable"), [("cpu", "CXX"), ("cuda", "CC")])
def test_compiling_takes_a_compiler_or_a_variable_that_names_one(
    device: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes.shutil, "which", lambda _: None)
    monkeypatch.delenv(variable, raising=False)
    assert not runtimes.has_compiler(device)

    monkeypatch.setenv(variable, "icx")

    assert runtimes.has_compiler(device)


def test_an_unknown_runtime_is_named_with_the_known_ones(ordinary: Callable[..., PoseNet]) -> None:
    with pytest.raises(HwlError, match="'tensorrt' is not one of auto, eager, fused"):
        ready(ordinary(), "tensorrt", SIZE, batch_size=1)


def test_a_runtime_of_a_package_that_is_not_installed_says_so(
    monkeypatch: pytest.MonkeyPatch, ordinary: Callable[..., PoseNet]
) -> None:
    find = export.importlib.util.find_spec
    monkeypatch.setattr(
        export.importlib.util, "find_spec", lambda name: None if name == "openvino" else find(name)
    )

    with pytest.raises(HwlError, match=r"'openvino': openvino is not installed: pip install"):
        prepare(ordinary(), "openvino", SIZE)


def test_compile_without_a_compiler_says_so(
    monkeypatch: pytest.MonkeyPatch, ordinary: Callable[..., PoseNet]
) -> None:
    monkeypatch.setattr(runtimes.shutil, "which", lambda _: None)

    with pytest.raises(HwlError, match=r"needs a C\+\+ compiler"):
        prepare(ordinary(), "compile", SIZE)


def test_a_gpus_runtime_says_that_it_is_for_a_gpu(ordinary: Callable[..., PoseNet]) -> None:
    with pytest.raises(HwlError, match="'cuda-graph' runs on cuda, not on cpu"):
        prepare(ordinary(), "cuda-graph", SIZE)


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (RuntimeError("no such kernel\nand a long trace"), "RuntimeError: no such kernel"),
        (AssertionError(), "AssertionError"),
    ],
)
def test_an_engines_own_failure_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
    ordinary: Callable[..., PoseNet],
    failure: Exception,
    said: str,
) -> None:
    def fail(_: PoseNet) -> PoseNet:
        raise failure

    monkeypatch.setattr(runtimes, "fold", fail)

    with pytest.raises(HwlError) as caught:
        prepare(ordinary(), "fused", SIZE)

    assert f"cannot run model 'ours' here ({said}): use 'eager'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_auto_picks_the_fastest_and_says_what_it_measured(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    ordinary: Callable[..., PoseNet],
) -> None:
    turns = {"eager": 3.0, "fused": 1.0, "onnxruntime": 2.0, "openvino": 4.0}
    clock = [0.0]

    def prepared(_: PoseNet, name: str, *__: object, **___: object):
        def model(x: Tensor) -> Tensor:
            clock[0] += turns[name]
            return x

        return model

    monkeypatch.setattr(fastest_module, "prepare", prepared)
    monkeypatch.setattr(fastest_module, "unavailable", lambda *_: "")
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(
        fastest_module, "RUNTIMES", {name: RUNTIMES[name] for name in (*turns, "openvino-int8")}
    )

    name, _ = ready(ordinary(), "auto", SIZE, batch_size=2)

    assert name == "fused"
    assert "fused 500.0, onnxruntime 1000.0, eager 1500.0" in capsys.readouterr().out


def test_auto_keeps_to_runtimes_that_are_there(
    monkeypatch: pytest.MonkeyPatch, ordinary: Callable[..., PoseNet]
) -> None:
    monkeypatch.setattr(
        fastest_module, "unavailable", lambda name, _: "" if name == "eager" else "not here"
    )

    name, model, _ = fastest(ordinary(), SIZE, batch_size=1)

    assert name == "eager"
    assert model(images(1)).shape == (1, 3, 16, 16)


def test_a_batch_of_fixed_size_is_filled_up_and_cut_again() -> None:
    built: list[int] = []
    asked: list[int] = []

    def build(count: int):
        built.append(count)

        def model(x: Tensor) -> Tensor:
            asked.append(len(x))
            return x * count

        return model

    batches = FixedBatches(build)
    x = torch.arange(1.0, 9.0).view(8, 1, 1, 1)

    outputs = [batches(x), batches(x[:5]), batches(x[:1])]

    assert built == [8, 1]
    assert asked == [8, 8, 1]
    assert torch.equal(outputs[1], x[:5] * 8)
    assert torch.equal(outputs[2], x[:1])


def test_an_evaluation_runs_in_another_runtime_and_tells_which(
    trained: Path, puppets: Path, tmp_path: Path
) -> None:
    from hwl.evaluation.config import EvaluateConfig
    from hwl.evaluation.evaluate import evaluate_weights

    def evaluated(runtime: str) -> list:
        config = EvaluateConfig(
            output=str(tmp_path),
            weights=str(trained / "best.safetensors"),
            data=str(puppets),
            input_height=64,
            input_width=32,
            workers=0,
            bootstrap=0,
            runtime=runtime,
            calibration_data=str(puppets),
        )
        return evaluate_weights(config)[1]

    plain, fused = evaluated("eager"), evaluated("fused")

    assert {one.protocol["runtime"] for one in fused} == {"fused"}
    assert "runtime fused" in fused[0].sentence()
    # Peaks, not metrics: in the heatmaps of so short a training two cells may be as high.
    for one, other in zip(plain, fused, strict=True):
        np.testing.assert_allclose(one.poses.scores, other.poses.scores, rtol=1e-3, atol=1e-6)


def test_auto_passes_over_a_runtime_that_fails(
    monkeypatch: pytest.MonkeyPatch, ordinary: Callable[..., PoseNet]
) -> None:
    def prepared(model: PoseNet, name: str, *_: object, **__: object) -> object:
        if name != "eager":
            raise HwlError(f"{name} answers otherwise")
        return model

    monkeypatch.setattr(fastest_module, "prepare", prepared)

    name, _, said = fastest(ordinary(), SIZE, batch_size=1)

    assert name == "eager"
    assert "; without 'fused': fused answers otherwise" in said

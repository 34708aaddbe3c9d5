"""One model, run by different engines: PyTorch, compiled PyTorch, ONNX Runtime, OpenVINO.

All of them take and give what the model does. Those of float32 precision are held to PyTorch's
answers when they are prepared, as far as PyTorch itself is exact on the device; int8 and bfloat16
are approximations.
"""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hwl.errors import HwlError
from hwl.inference.agreement import allowed_difference, check_agreement
from hwl.inference.export import INPUT, cached_onnx, missing_packages
from hwl.inference.fused import fold, merge_attention, unroll
from hwl.inference.predictor import Model
from hwl.models import PoseNet

Size = tuple[int, int]


def prepare(
    model: PoseNet,
    name: str,
    input_size: Size,
    calibration: Tensor | None = None,
    device: torch.device | str = "cpu",
) -> Model:
    """A model in a runtime.

    On a CPU it uses as many threads as torch does now.

    Args:
        model: the model; it is left as it is, on its device.
        name: a key of RUNTIMES.
        input_size: (height, width) in pixels, the only size it will take.
        calibration: for int8, crops of training persons (`hwl.inference.export.calibration_crops`).
        device: where images will come from, "cpu" or "cuda".

    Returns:
        (N, 3, height, width) float32 normalized crops on `device` -> (N, K, height/4, width/4)
        float32 heatmaps there, for any N; a new N may take time to prepare once.

    Raises:
        HwlError: the runtime cannot run here, int8 has no calibration images, or the answers of a
            float32 runtime are not those of the model.
    """
    device = torch.device(device)
    if reason := unavailable(name, device.type):
        raise HwlError(reason)
    runtime = RUNTIMES[name]
    if runtime.precision != "int8":
        calibration = None
    elif calibration is None:
        raise HwlError(
            f"runtime '{name}' needs images to calibrate int8 with: name a folder in COCO's "
            "layout with training persons as calibration_data"
        )
    try:
        prepared = runtime.build(model, input_size, calibration, device)
        if runtime.precision == "float32":
            _check(prepared, model, input_size, device, f"in runtime '{name}'")
    except HwlError:
        raise
    except Exception as error:  # engines and compilers fail with exceptions of their own
        why = ": ".join([type(error).__name__, *str(error).splitlines()[:1]])
        raise HwlError(
            f"runtime '{name}' cannot run model '{model.config['name']}' here ({why}): use 'eager'"
        ) from error
    return prepared


def unavailable(name: str, device: str) -> str:
    """Why a runtime cannot run on a device ("cpu" or "cuda") of this machine; empty if it can.

    Raises:
        HwlError: there is no such runtime.
    """
    if name not in RUNTIMES:
        raise HwlError(f"runtime '{name}' is not one of auto, {', '.join(RUNTIMES)}")
    runtime = RUNTIMES[name]
    if device not in runtime.devices:
        return f"runtime '{name}' runs on {' and '.join(runtime.devices)}, not on {device}"
    if device == "cuda" and not torch.cuda.is_available():
        return f"runtime '{name}' on cuda needs a GPU, and PyTorch finds none"
    fault = missing_packages(*runtime.packages) or runtime.fault(device)
    return f"runtime '{name}': {fault}" if fault else ""


def _no_fault(device: str) -> str:
    return ""


def has_compiler(device: str) -> bool:
    """Whether torch.compile finds a compiler: of C++ for "cpu", of C for "cuda"."""
    variable, names = ("CC", ("gcc", "clang")) if device == "cuda" else ("CXX", ("g++", "clang"))
    return variable in os.environ or any(map(shutil.which, names))


def _no_compiler(device: str) -> str:
    return (
        "" if has_compiler(device) else "needs a C++ compiler: install g++ or use another runtime"
    )


def _no_bfloat16(device: str) -> str:
    import openvino

    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return ""
    return "this processor does not multiply in bfloat16: use 'openvino'"


def _check(
    prepared: Model, model: PoseNet, input_size: Size, device: torch.device, what: str
) -> None:
    """HwlError unless a float32 runtime gives the heatmaps of eager PyTorch."""
    images = torch.randn(1, 3, *input_size, generator=torch.Generator().manual_seed(1))
    exact = _run(_evaluated(model, torch.device("cpu")))(images)
    there = images.to(device)
    eager = exact if device.type == "cpu" else _run(_evaluated(model, device))(there).cpu()
    check_agreement(prepared(there).cpu(), exact, what, allowed_difference(eager, exact))


def _evaluated(model: PoseNet, device: torch.device) -> PoseNet:
    """The model in evaluation mode on a device: itself, or a copy where it is not so."""
    if model.mean.device.type == device.type and not model.training:
        return model
    return copy.deepcopy(model).eval().to(device)


class FixedBatches:
    """A model for any number of images, of an engine that wants to know the number beforehand.

    A number that is met for the first time is prepared, unless a larger one is there: then the
    batch is filled up, as the last one of a data set is.

    Args:
        build: number of images -> model for that number.
    """

    def __init__(self, build: Callable[[int], Model]) -> None:
        self.build = build
        self.prepared_models: dict[int, Model] = {}

    def __call__(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, K, H/4, W/4)."""
        count = len(images)
        larger = [n for n in self.prepared_models if n >= count]
        size = min(larger) if larger and count > 1 else count  # one image alone is common
        if size not in self.prepared_models:
            self.prepared_models[size] = self.build(size)
        if size > count:
            images = torch.cat([images, images[:1].expand(size - count, -1, -1, -1)])
        return self.prepared_models[size](images)[:count]


def _run(prepared: Callable[[Tensor], Tensor]) -> Model:
    """Without gradients, float32 out."""

    def run(images: Tensor) -> Tensor:
        with torch.inference_mode():
            return prepared(images).float()

    return run


Build = Callable[[PoseNet, Size, Tensor | None, torch.device], Model]


def _eager(model: PoseNet, size: Size, calibration: Tensor | None, device: torch.device) -> Model:
    return _run(copy.deepcopy(model).eval().to(device))


def _folded(model: PoseNet, device: torch.device, dtype: torch.dtype) -> PoseNet:
    prepared = merge_attention(fold(model)).to(device, dtype)
    return prepared.to(memory_format=torch.channels_last)


def _fused(dtype: torch.dtype) -> Build:
    def build(
        model: PoseNet, size: Size, calibration: Tensor | None, device: torch.device
    ) -> Model:
        prepared = unroll(_folded(model, device, dtype))
        return _run(lambda x: prepared(x.to(dtype, memory_format=torch.channels_last)))

    return build


def _compiled(dtype: torch.dtype) -> Build:
    def build(
        model: PoseNet, size: Size, calibration: Tensor | None, device: torch.device
    ) -> Model:
        prepared = _folded(model, device, dtype)
        # On a CPU weights become constants that are laid out anew, on a GPU kernels are tried out.
        how = (
            {"options": {"freezing": True}}
            if device.type == "cpu"
            else {"mode": "max-autotune-no-cudagraphs"}
        )

        def compile_for(count: int) -> Model:
            # Exported first: dynamo keeps few compilations of one forward method, which all
            # models here share.
            graph = torch.export.export(prepared, (_blank(count, size, device, dtype),)).module()
            compiled = torch.compile(graph, dynamic=False, **how)
            return _run(lambda x: compiled(x.to(dtype, memory_format=torch.channels_last)))

        return FixedBatches(compile_for)

    return build


def _cuda_graph(dtype: torch.dtype) -> Build:
    def build(
        model: PoseNet, size: Size, calibration: Tensor | None, device: torch.device
    ) -> Model:
        prepared = _folded(model, device, dtype)

        def capture(count: int) -> Model:
            images = _blank(count, size, device, dtype)
            graph = torch.cuda.CUDAGraph()
            with torch.inference_mode():
                stream = torch.cuda.Stream()
                stream.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(stream):  # libraries choose their kernels before the capture
                    for _ in range(3):
                        prepared(images)
                torch.cuda.current_stream().wait_stream(stream)
                with torch.cuda.graph(graph):
                    heatmaps = prepared(images)

            def replay(x: Tensor) -> Tensor:
                images.copy_(x)
                graph.replay()
                return heatmaps.clone()  # the next replay writes there again

            return _run(replay)

        return FixedBatches(capture)

    return build


def _blank(count: int, size: Size, device: torch.device, dtype: torch.dtype) -> Tensor:
    images = torch.zeros(count, 3, *size, device=device, dtype=dtype)
    return images.to(memory_format=torch.channels_last)


def _onnxruntime(
    model: PoseNet, size: Size, calibration: Tensor | None, device: torch.device
) -> Model:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(cached_onnx(model, size, calibration), options)
    return lambda images: torch.from_numpy(
        session.run(None, {INPUT: images.contiguous().numpy()})[0]
    )


def _openvino(precision: str) -> Build:
    """OpenVINO at a precision; its own choice is bf16 where the processor has it, else f32."""

    def build(
        model: PoseNet, size: Size, calibration: Tensor | None, device: torch.device
    ) -> Model:
        import openvino

        core = openvino.Core()
        content = cached_onnx(model, size, calibration)
        settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }

        def compile_for(count: int) -> Model:
            # A batch left open costs a third of the speed.
            graph = core.read_model(content)
            graph.reshape([count, 3, *size])
            request = core.compile_model(graph, "CPU", settings).create_infer_request()
            # The answer is copied, for the next request writes there again.
            return lambda images: torch.from_numpy(
                request.infer({0: images.contiguous().numpy()}, share_inputs=True)[0]
            )

        return FixedBatches(compile_for)

    return build


@dataclass(frozen=True)
class Runtime:
    """An engine at a precision.

    Attributes:
        precision: "float32", "bfloat16" or "int8".
        devices: where it runs, of "cpu" and "cuda".
        build: makes the model of a model.
        packages: what must be installed beside hwl's own needs.
        fault: device -> what else this machine lacks for it, empty where nothing.
    """

    precision: str
    devices: tuple[str, ...]
    build: Build
    packages: tuple[str, ...] = ()
    fault: Callable[[str], str] = _no_fault


BOTH, CPU, CUDA = ("cpu", "cuda"), ("cpu",), ("cuda",)
EXPORTER = ("onnx", "onnxscript", "onnxruntime")
FLOAT, HALF = torch.float32, torch.bfloat16
RUNTIMES = {
    "eager": Runtime("float32", BOTH, _eager),
    "fused": Runtime("float32", BOTH, _fused(FLOAT)),
    "compile": Runtime("float32", BOTH, _compiled(FLOAT), fault=_no_compiler),
    "onnxruntime": Runtime("float32", CPU, _onnxruntime, EXPORTER),
    "openvino": Runtime("float32", CPU, _openvino("f32"), (*EXPORTER, "openvino")),
    "onnxruntime-int8": Runtime("int8", CPU, _onnxruntime, (*EXPORTER, "nncf")),
    "openvino-int8": Runtime("int8", CPU, _openvino("f32"), (*EXPORTER, "openvino", "nncf")),
    "openvino-bf16": Runtime(
        "bfloat16", CPU, _openvino("bf16"), (*EXPORTER, "openvino"), _no_bfloat16
    ),
    "fused-bf16": Runtime("bfloat16", CUDA, _fused(HALF)),
    "compile-bf16": Runtime("bfloat16", CUDA, _compiled(HALF)),
    "cuda-graph": Runtime("float32", CUDA, _cuda_graph(FLOAT)),
    "cuda-graph-bf16": Runtime("bfloat16", CUDA, _cuda_graph(HALF)),
}

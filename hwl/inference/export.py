"""Models as ONNX files, in float32 or calibrated int8, checked before anybody uses them."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import importlib.metadata
import importlib.util
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import pooch
import torch
from torch import Tensor

from hwl import models
from hwl.codec import HeatmapCodec
from hwl.data.annotations import load_split
from hwl.data.dataset import PersonDataset
from hwl.errors import HwlError
from hwl.files import replacing
from hwl.inference import fused
from hwl.inference.agreement import check_agreement, check_resemblance
from hwl.inference.fused import equalize, fold, gates_as_linear_layers, work_on_phases
from hwl.models import PoseNet
from hwl.models.weights import metadata
from hwl.processor import int8_saturates
from hwl.progress import progress

INPUT, OUTPUT = "images", "heatmaps"
CALIBRATION_PERSONS = 128
CHECKED = 8  # images that int8 is checked with
EXPORTERS = ("torch", "onnx", "onnxscript")  # their versions make a difference to a file
QUANTIZER = "nncf"  # and its to an int8 file
SOURCES = (Path(__file__), Path(fused.__file__))  # beside the models' own
CACHE = Path(pooch.os_cache("hwl")) / "onnx"
KEPT = 48  # files there
# Kept in float32: a small part of the work, and each would take conversions to int8 and back.
FLOAT_OPERATORS = ["Add", "Mul", "GlobalAveragePool", "ReduceMean", "MatMul"]


def missing_packages(*packages: str) -> str:
    """One sentence on those of the packages that are not installed; empty if all are."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    verb = "is" if len(missing) == 1 else "are"
    return (
        f"{' and '.join(missing)} {verb} not installed: pip install 'hwl[runtimes]'"
        if missing
        else ""
    )


def write_onnx(
    model: PoseNet, path: Path, input_size: tuple[int, int], calibration: Tensor | None = None
) -> None:
    """Write `onnx_bytes` to a file, whole or not at all."""
    content = onnx_bytes(model, input_size, calibration)
    with replacing(path) as partial:
        partial.write_bytes(content)


def onnx_bytes(
    model: PoseNet, input_size: tuple[int, int], calibration: Tensor | None = None
) -> bytes:
    """A model in ONNX, for any number of images of one size.

    The model is fused exactly (`hwl.inference.fused`) and checked: ONNX Runtime's answers must be
    PyTorch's (`check_agreement`). With `calibration` its convolutions are then quantized to int8,
    save those that gain nothing from it and the last, whose heatmaps need precision.

    Args:
        model: the model; it stays as it is.
        input_size: (height, width) in pixels.
        calibration: (M, 3, height, width) float32 normalized crops for int8; None: float32.

    Returns:
        The file's content. Its metadata hold the model's configuration and description, the input
        size of this file and its precision.

    Raises:
        HwlError: a package is missing, or the answers are not the model's.
    """
    needed = ["onnx", "onnxscript", "onnxruntime"] + ["nncf"] * (calibration is not None)
    if fault := missing_packages(*needed):
        raise HwlError(fault)
    import onnx

    original = copy.deepcopy(model).cpu().eval()
    fused = fold(original)
    if calibration is not None:
        fused = gates_as_linear_layers(equalize(fused, calibration))
    # Two images, for an exporter takes a batch of one to be one for ever.
    images = torch.randn(2, 3, *input_size, generator=torch.Generator().manual_seed(0))
    with _quiet():
        program = torch.onnx.export(
            work_on_phases(fused),
            (images,),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    assert program is not None
    content = program.model_proto
    check_agreement(*_answers(content, original, images), "the ONNX file of")
    if calibration is not None:
        content = _quantize(content, calibration)
        check_resemblance(*_answers(content, original, calibration[:CHECKED]), "the ONNX file of")
    description = {
        **metadata(model),
        "input": f"{input_size[0]}x{input_size[1]}",
        "precision": "float32" if calibration is None else "int8",
    }
    onnx.helper.set_model_props(content, description)
    return content.SerializeToString()


def _answers(content: Any, original: PoseNet, images: Tensor) -> tuple[Tensor, Tensor]:
    """Heatmaps of an ONNX model in ONNX Runtime, and those of the original model."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content.SerializeToString())
    answers = torch.from_numpy(session.run(None, {INPUT: images.cpu().numpy()})[0])
    with torch.inference_mode():
        return answers, original(images.cpu())


def cached_onnx(model: PoseNet, input_size: tuple[int, int], calibration: Tensor | None) -> bytes:
    """`onnx_bytes`, kept in the user's cache folder, for an export takes seconds to a minute.

    A file is named by a hash of all that it depends on and by one of its content, so that a broken
    file is found and made again; the oldest go when they are many.
    """
    key = f"{model.config['name']}-{_cache_key(model, input_size, calibration)}"
    for path in CACHE.glob(f"{key}-*.onnx"):
        content = path.read_bytes()
        if path.stem == f"{key}-{_digest(content)}":
            return content
        path.unlink(missing_ok=True)
    content = onnx_bytes(model, input_size, calibration)
    CACHE.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(CACHE / ".lock"):  # of several processes, one writes at a time
        with replacing(CACHE / f"{key}-{_digest(content)}.onnx") as partial:
            partial.write_bytes(content)
        by_age = sorted(CACHE.glob("*.onnx"), key=lambda file: file.stat().st_mtime)
        for file in by_age[:-KEPT]:
            file.unlink(missing_ok=True)
    return content


def _cache_key(model: PoseNet, input_size: tuple[int, int], calibration: Tensor | None) -> str:
    """Of weights, images of int8, code of the models and exports, packages, and processor."""
    parts = [repr((metadata(model), input_size, calibration is not None)).encode()]
    for tensor in (*model.state_dict().values(), calibration):
        if tensor is not None:
            parts.append(tensor.detach().cpu().contiguous().numpy().tobytes())
    if calibration is not None:
        parts.append(repr(int8_saturates()).encode())
    for source in (*sorted(Path(models.__file__).parent.glob("*.py")), *SOURCES):
        parts.append(source.read_bytes())
    for package in EXPORTERS if calibration is None else (*EXPORTERS, QUANTIZER):
        parts.append(f"{package} {importlib.metadata.version(package)}".encode())
    return _digest(*parts)


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:32]


def calibration_crops(folder: Path, split: str, input_size: tuple[int, int]) -> Tensor:
    """Crops of persons of a data set, to calibrate int8 with.

    Args:
        folder: data in COCO's layout.
        split: the training part, whose persons are taken at even distances.
        input_size: (height, width) in pixels.

    Returns:
        (M, 3, height, width) uint8 RGB, M up to CALIBRATION_PERSONS; `PoseNet.preprocess` takes
        them.

    Raises:
        HwlError: the data cannot be used.
    """
    persons = PersonDataset(load_split(folder, split), HeatmapCodec(input_size), None, seed=0)
    count = min(CALIBRATION_PERSONS, len(persons))
    chosen = torch.linspace(0, len(persons) - 1, count).long().tolist()
    crops = [persons[0, person].crop for person in progress(chosen, "read crops to calibrate")]
    return torch.stack(crops)


def _quantize(content: Any, calibration: Tensor) -> Any:
    """An ONNX model with int8 convolutions, ranges of activations taken from the images."""
    batches = progress([{INPUT: image[None].numpy()} for image in calibration], "calibrate")
    with _quiet(), _no_output_widgets():
        import nncf
        from nncf.quantization.advanced_parameters import OverflowFix, QuantizationParameters

        return nncf.quantize(
            content,
            nncf.Dataset(batches),
            preset=nncf.QuantizationPreset.PERFORMANCE,
            subset_size=len(calibration),
            ignored_scope=nncf.IgnoredScope(
                names=_float_convolutions(content), types=FLOAT_OPERATORS, validate=False
            ),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                # Half the range of weights where products would else saturate, unnoticed.
                overflow_fix=OverflowFix.ENABLE if int8_saturates() else None,
                # ONNX Runtime knows no scale a channel for activations.
                activations_quantization_params=QuantizationParameters(per_channel=False),
                # It made no difference to AP.
                disable_bias_correction=True,
            ),
        )


def _float_convolutions(content: Any) -> list[str]:
    """Nodes of convolutions that int8 would cost precision or not make faster.

    The head's last layer, the attention's of one channel, and grouped ones on maps no larger than
    heatmaps: such a convolution has little to compute, and on a large map int8 saves it reading.
    """
    shapes = {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*content.graph.value_info, *content.graph.input, *content.graph.output)
    }
    heatmap_height = shapes[OUTPUT][2]
    names = []
    for node in content.graph.node:
        if node.op_type not in ("Conv", "ConvTranspose"):
            continue
        _, channels, height, _ = shapes[node.input[0]]
        grouped = any(part.name == "group" and part.i > 1 for part in node.attribute)
        last = node.input[1].endswith("final_layer.weight")
        if last or channels == 1 or (grouped and height <= heatmap_height):
            names.append(node.name)
    return names


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the chatter of exporters, which tells a user nothing to act on."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            open(os.devnull, "w") as nowhere,
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _no_output_widgets() -> Iterator[None]:
    """Keep nncf's bars from being Output widgets, at which a notebook's run hangs at times."""
    import rich

    console = rich.get_console()
    before, console.is_jupyter = console.is_jupyter, False
    try:
        yield
    finally:
        console.is_jupyter = before

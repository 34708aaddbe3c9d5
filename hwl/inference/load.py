"""From a weights file to a Predictor: `hwl.load`."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import torch

from hwl import config
from hwl.codec import HeatmapCodec
from hwl.errors import HwlError
from hwl.inference.config import PredictorConfig
from hwl.inference.export import calibration_crops, write_onnx
from hwl.inference.fastest import ready
from hwl.inference.predictor import Predictor
from hwl.inference.runtimes import RUNTIMES
from hwl.models import PoseNet, ensure_description, open_model, save_weights

IN_FOLDER = ("model.safetensors", "best.safetensors")  # names of a folder's weights


def load(
    weights: str | Path, runtime: str = "eager", device: str | None = None, **options: object
) -> Predictor:
    """A Predictor of trained weights: `hwl.load("best.safetensors")("photo.jpg").keypoints`.

    Weights of hwl describe themselves: keypoints, input size, normalization and decoding are
    theirs. Another input size is an error unless `allow_other_size` is true. A checkpoint that does
    not describe itself needs `model`; COCO's 17 keypoints (MPII's 16, LSP's 14) and 256x192 are
    then assumed, which is printed.

    Args:
        weights: a path or a URL, or with `model` "openmmlab" for its published weights. A folder
            stands for its `model.safetensors`, as models are shared, or `best.safetensors`, as a
            training leaves it.
        runtime: of `hwl.inference.runtimes`, or "auto": the fastest of float32 precision here.
        device: "cpu" or "cuda"; None takes the GPU where there is one and the runtime can use it.
        options: the fields of `hwl.inference.config.PredictorConfig`: model, input_height,
            input_width, allow_other_size, flip, batch_size, calibration_data, calibration_split.

    Raises:
        HwlError: an unknown option, weights that cannot be used, another input size, or a runtime
            that cannot run here.
    """
    how = config.build(PredictorConfig, options)
    return open_predictor(_in_folder(weights), how, runtime, device)


def _in_folder(weights: str | Path) -> str | Path:
    """The weights file of a folder; anything but a folder as it is."""
    folder = Path(weights)
    if not folder.is_dir():
        return weights
    found = [folder / name for name in IN_FOLDER if (folder / name).is_file()]
    if not found:
        raise HwlError(f"{folder} holds no {' and no '.join(IN_FOLDER)}: name the weights' file")
    return found[0]


def open_predictor(
    weights: str | Path,
    how: PredictorConfig,
    runtime: str = "eager",
    device: str | None = None,
) -> Predictor:
    """What `load` does, with its options as a configuration."""
    model, codec = open_described(weights, how)
    where = _checked(device) if device else default_device(runtime)
    name, prepared = ready(
        model.to(where),
        runtime,
        input_size=codec.input_size,
        batch_size=how.batch_size,
        calibration=(how.calibration_data, how.calibration_split),
        device=where,
    )
    return Predictor(
        model=model,
        prepared=prepared,
        codec=codec,
        flip=how.flip,
        batch_size=how.batch_size,
        runtime=name,
    )


def _checked(device: str) -> str:
    """The device; HwlError where PyTorch knows or finds none such."""
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise HwlError(f"device '{device}' is none of PyTorch's, such as cpu or cuda") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise HwlError(f"device '{device}' needs a GPU, and PyTorch finds none")
    return device


def shared_options(job: object) -> PredictorConfig:
    """The options among the fields of a job's configuration."""
    known = [field.name for field in fields(PredictorConfig)]
    given = {name: getattr(job, name) for name in known if hasattr(job, name)}
    return config.build(PredictorConfig, given)


def default_device(runtime: str) -> str:
    """ "cuda" where there is a GPU and the runtime can use it, else "cpu"."""
    can = runtime not in RUNTIMES or "cuda" in RUNTIMES[runtime].devices
    return "cuda" if can and torch.cuda.is_available() else "cpu"


def open_described(weights: str | Path, how: PredictorConfig) -> tuple[PoseNet, HeatmapCodec]:
    """A trained model that describes itself, and the codec at its input size or the one asked for.

    Raises:
        HwlError: the weights cannot be used, or another input size is asked for but not allowed.
    """
    model = open_model(weights, how.model)
    described = model.description is not None
    description = ensure_description(model, weights)
    own = description.input_size
    size = (how.input_height or own[0], how.input_width or own[1])
    if described and size != own and not how.allow_other_size:
        raise HwlError(
            f"{weights} is of input size {own[0]}x{own[1]}, asked for is {size[0]}x{size[1]}: "
            "leave the size out, or set allow_other_size to true to use the weights at another"
        )
    if not described:
        model.describe(replace(description, input_size=size))
    return model, HeatmapCodec(size, description.sigma)


def write_model(output: Path, weights: str | Path, how: PredictorConfig) -> None:
    """Write trained weights as the kind of file that its ending says, whole or not at all.

    Args:
        output: `.onnx`, or `.safetensors`; both describe themselves.
        weights: as `load` takes them.
        how: model, the input size of an ONNX file, and the persons that calibrate its int8.

    Raises:
        HwlError: another ending, an output that exists, int8 safetensors, or what `open_described`
            and `onnx_bytes` raise.
    """
    if output.suffix not in (".onnx", ".safetensors"):
        raise HwlError(f"{output}: the file's name must end in .onnx or .safetensors")
    if output.exists() or output.is_symlink():
        raise HwlError(f"{output} is there already: delete it, or choose another name")
    if output.suffix == ".safetensors":
        if how.calibration_data:
            raise HwlError(f"{output}: weights are saved in float32; leave calibration_data out")
        save_weights(open_described(weights, how)[0], output)
        return
    model, codec = open_described(weights, how)
    crops = None
    if how.calibration_data:
        crops = model.preprocess(
            calibration_crops(Path(how.calibration_data), how.calibration_split, codec.input_size)
        )
    write_onnx(model, output, codec.input_size, crops)

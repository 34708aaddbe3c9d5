"""Reading and writing model weights: ours, the authors' and mmpose's checkpoints.

A weights file of `hwl` is safetensors with the model's configuration and description as metadata,
so that a file says which model it belongs to and how to use it, and nothing in it can run code.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import safetensors
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from hwl.errors import HwlError
from hwl.files import replacing
from hwl.models.description import Description, assumed_description, description_from_dict
from hwl.models.pose import PoseNet
from hwl.models.published import fetch_weights
from hwl.models.zoo import MODELS, create_model

# Wrappers that training frameworks put around a state dict. mmengine keeps averaged weights in
# "state_dict" and the last raw ones in "ema_state_dict".
WRAPPERS = ("state_dict", "ema_state_dict", "ema", "model")
# Prefixes of other frameworks and what they are here; an empty one drops the prefix.
PREFIXES = {"module.": "", "keypoint_head.": "head."}
DROPPED = "data_preprocessor."  # mmpose 1.x's image mean and std, which are no part of the model
# mmpose 1.x saves numpy arrays (keypoint weights, colors) beside the weights. To read them takes
# these, none of which can run code; the first is known by its numpy 1 and numpy 2 names.
_reconstruct = np.empty(0).__reduce__()[0]
ARRAY_PARTS: list[Any] = [
    (_reconstruct, "numpy.core.multiarray._reconstruct"),
    (_reconstruct, "numpy._core.multiarray._reconstruct"),
    np.ndarray,
    np.dtype,
    type(np.dtype(np.float32)),
    type(np.dtype(np.uint8)),
]
BACKBONE = "backbone."
SAFETENSORS = ".safetensors"
ONNX = ".onnx"
METADATA = "hwl"  # the entry of a file's metadata that is ours
LAST_LAYER = "head.final_layer.weight"  # (keypoints, channels, 1, 1) in every model
SHOWN = 5  # keys listed in an error message


def save_weights(model: PoseNet, path: Path) -> None:
    """Write a model's weights, configuration and description, whole or not at all."""
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    # Written here, for safetensors' own save_file makes files that only their owner can read.
    with replacing(path) as partial:
        partial.write_bytes(save(state, metadata=metadata(model)))


def metadata(model: PoseNet) -> dict[str, str]:
    """What a file of the model, of any kind, says of it: configuration and description as JSON.

    It is one entry, for safetensors writes several in an order that changes from run to run.
    """
    description = model.description.to_dict() if model.description else None
    return {METADATA: json.dumps({"config": model.config, "description": description})}


def open_model(weights: Path | str, model: str = "") -> PoseNet:
    """A trained model from any source of weights, in evaluation mode.

    Args:
        weights: without `model`, a weights file of hwl; with it, any checkpoint that `load_weights`
            reads. A path, a URL or, with `model`, "openmmlab" for its published weights.
        model: a key of MODELS, for weights that do not say which model they are; the number of
            keypoints is the checkpoint's, options are the model's defaults.

    Raises:
        HwlError: the weights cannot be fetched or read, or are another model's.
    """
    path = fetch_weights(str(weights), model)
    if not model:
        return load_model(path)
    state = _read_state(path)
    opened = _fill(create_model(model, _count_keypoints(state, path)), state, path).eval()
    return _describe(opened, path)


def load_model(path: Path) -> PoseNet:
    """The model of a weights file written by `save_weights`, in evaluation mode.

    Raises:
        HwlError: the file is missing, broken or has no configuration, or its metadata are wrong.
    """
    config = _told(path, "config")
    if config is None or "name" not in config:
        raise HwlError(
            f"{path} does not say which model it is for: name it by `model` (see "
            f"hwl.models.open_model), one of {', '.join(MODELS)}"
        )
    if config.get("backbone") == "torchvision-imagenet":
        config["backbone"] = "torchvision"  # the weights come from this file, not from the net
    config.pop("imagenet", None)
    try:
        fresh = create_model(**config)
    except (TypeError, ValueError, HwlError) as error:
        raise HwlError(f"{path}: its metadata 'config' make no model ({error})") from error
    return _describe(_fill(fresh, _read_state(path), path).eval(), path)


def load_weights(model: PoseNet, weights: Path | str) -> PoseNet:
    """Load a checkpoint into a model, strictly, and return the model.

    Reads safetensors and PyTorch files (`weights_only=True`, so no code in a pickle runs), the
    keys of `hwl`, of the authors and of mmpose 0.x and 1.x, bare or wrapped by a framework.

    Args:
        model: is changed only if the checkpoint fits; it keeps its own description.
        weights: a path, a URL or "openmmlab" for the published weights of the model's model.

    Raises:
        HwlError: the file is missing or broken, its keys or shapes are another model's, or both
            describe themselves and their keypoints differ.
    """
    path = fetch_weights(str(weights), str(model.config["name"]))
    state = _read_state(path)
    description = _description(path)
    if description and model.description:
        description.check_keypoints(model.description.skeleton, "the model to train", path)
    return _fill(model, state, path)


def ensure_description(model: PoseNet, source: object) -> Description:
    """The model's description; where it has none, one is assumed and printed, and it keeps that.

    Raises:
        HwlError: there is none, and no known keypoint set has as many keypoints.
    """
    if model.description is None:
        model.describe(assumed_description(model.num_keypoints, source))
    assert model.description is not None
    return model.description


def _description(path: Path) -> Description | None:
    told = _told(path, "description")
    return None if told is None else description_from_dict(told, path)


def _told(path: Path, what: str) -> dict[str, Any] | None:
    """The configuration or the description in a file's metadata, where it is there."""
    metadata = _metadata(path)
    try:
        if METADATA in metadata:
            told = msgspec.json.decode(metadata[METADATA], type=dict[str, dict[str, Any] | None])
            return told.get(what)
        # Files of earlier versions have the configuration alone.
        return msgspec.json.decode(metadata.get(what, "null"), type=dict[str, Any] | None)
    except msgspec.DecodeError as error:
        if METADATA in metadata:
            raise HwlError(f"{path}: its metadata cannot be read ({error})") from error
        return None  # another program's metadata


def _describe(model: PoseNet, path: Path) -> PoseNet:
    description = _description(path)
    if description is None:
        return model
    if len(description.skeleton) != model.num_keypoints:
        raise HwlError(
            f"{path} describes {len(description.skeleton)} keypoints, its model predicts "
            f"{model.num_keypoints}: export the weights again"
        )
    model.describe(description)
    return model


def _count_keypoints(state: dict[str, Tensor], path: Path) -> int:
    last = state.get(LAST_LAYER)
    if last is None or last.ndim != 4:
        raise HwlError(
            f"{path} has no {LAST_LAYER} of four dimensions, so it is not of a model here: give "
            f"a checkpoint of {', '.join(MODELS)}"
        )
    return len(last)


def _fill(model: PoseNet, state: dict[str, Tensor], path: Path) -> PoseNet:
    """Load a state dict of `_read_state`; `path` is for the refusal of another model's."""
    names = getattr(model.backbone, "checkpoint_names", {})  # where a backbone is torchvision's
    state = {_backbone_key(key, names): value for key, value in state.items()}
    expected = model.state_dict()
    missing = sorted(expected.keys() - state.keys())
    extra = sorted(state.keys() - expected.keys())
    wrong = sorted(
        key for key in expected.keys() & state.keys() if expected[key].shape != state[key].shape
    )
    problems = [
        f"{len(keys)} {what} ({', '.join(keys[:SHOWN])}{', ...' if len(keys) > SHOWN else ''})"
        for what, keys in (("missing", missing), ("unexpected", extra), ("of other shape", wrong))
        if keys
    ]
    if problems:
        raise HwlError(
            f"{path} does not fit model '{model.config['name']}' with "
            f"{model.config['num_keypoints']} keypoints: {'; '.join(problems)}"
        )
    for key, value in state.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise HwlError(
                f"{path} holds numbers in {key} that are not finite: the training that wrote it "
                "went wrong; take other weights, or train again with a lower lr"
            )
    model.load_state_dict(state)
    return model


def _our_key(key: str) -> str:
    for prefix, replacement in PREFIXES.items():
        if key.startswith(prefix):
            key = replacement + key.removeprefix(prefix)
    return key


def _backbone_key(key: str, names: dict[str, str]) -> str:
    if not key.startswith(BACKBONE):
        return key
    module, _, tensor = key.removeprefix(BACKBONE).rpartition(".")
    return f"{BACKBONE}{names.get(module, module)}.{tensor}"


def _metadata(path: Path) -> dict[str, str]:
    """Of a safetensors file, which is looked through for damage; of another kind of file, none."""
    if not path.is_file():
        raise HwlError(f"{path}: there is no such weights file")
    if path.suffix == ONNX:
        raise HwlError(
            f"{path} is for other programs: give the .safetensors that it was exported from (int8 "
            "is --runtime onnxruntime-int8 with --calibration-data)"
        )
    if path.suffix != SAFETENSORS:
        return {}
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        raise HwlError(f"{path} is not a whole safetensors file ({error})") from error


def _read_state(path: Path) -> dict[str, Tensor]:
    """A checkpoint's tensors by our keys, but for the backbone's, which take the model."""
    _metadata(path)
    content = load_file(path) if path.suffix == SAFETENSORS else _read_pickle(path)
    return {_our_key(key): value for key, value in content.items() if not key.startswith(DROPPED)}


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        with torch.serialization.safe_globals(ARRAY_PARTS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise HwlError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a damaged pickle can fail with nearly any exception
        if isinstance(error, pickle.UnpicklingError) and "GLOBAL" in str(error):
            raise HwlError(
                f"{path} holds more than tensors and is not loaded, for it could run code; "
                "save its state dict alone with torch.save(checkpoint['state_dict'], ...)"
            ) from error
        raise HwlError(
            f"{path} is broken, truncated or no PyTorch file ({type(error).__name__}); "
            "remove it and fetch it again"
        ) from error
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        raise HwlError(f"{path} holds no state dict (looked for {', '.join(WRAPPERS)} and at top)")
    return content

"""Reading and writing model weights: ours, the authors' and mmpose's checkpoints.

A weights file of `hwl` is safetensors with the model's configuration as metadata, so that a
file says which model it belongs to and nothing in it can run code.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import safetensors
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from hwl.errors import HwlError
from hwl.files import replacing
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
ARRAY_PARTS = [
    (_reconstruct, "numpy.core.multiarray._reconstruct"),
    (_reconstruct, "numpy._core.multiarray._reconstruct"),
    np.ndarray,
    np.dtype,
    type(np.dtype(np.float32)),
    type(np.dtype(np.uint8)),
]
BACKBONE = "backbone."
SAFETENSORS = ".safetensors"
LAST_LAYER = "head.final_layer.weight"  # (keypoints, channels, 1, 1) in every model
SHOWN = 5  # keys listed in an error message


def save_weights(model: PoseNet, path: Path) -> None:
    """Write a model's weights and configuration; the file appears whole or not at all."""
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    # Written here, for safetensors' own save_file makes files that only their owner can read.
    with replacing(path) as partial:
        partial.write_bytes(save(state, metadata={"config": json.dumps(model.config)}))


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
    return _fill(create_model(model, _count_keypoints(state, path)), state, path).eval()


def load_model(path: Path) -> PoseNet:
    """The model of a weights file written by `save_weights`, in evaluation mode.

    Raises:
        HwlError: the file is missing, broken or has no configuration.
    """
    try:
        config = json.loads(_metadata(path).get("config", "null"))
    except json.JSONDecodeError:  # another program's metadata
        config = None
    if not isinstance(config, dict) or "name" not in config:
        raise HwlError(
            f"{path} does not say which model it is for: name it by `model` (see "
            f"hwl.models.open_model), one of {', '.join(MODELS)}"
        )
    if config.get("backbone") == "torchvision-imagenet":
        config["backbone"] = "torchvision"  # the weights come from this file, not from the net
    config.pop("imagenet", None)
    return _fill(create_model(**config), _read_state(path), path).eval()


def load_weights(model: PoseNet, weights: Path | str) -> PoseNet:
    """Load a checkpoint into a model, strictly, and return the model.

    Reads safetensors and PyTorch files (`weights_only=True`, so no code in a pickle runs), the
    keys of `hwl`, of the authors and of mmpose 0.x and 1.x, bare or wrapped by a framework.

    Args:
        model: is changed only if the checkpoint fits.
        weights: a path, a URL or "openmmlab" for the published weights of the model's model.

    Raises:
        HwlError: the file is missing or broken, or its keys or shapes are another model's.
    """
    path = fetch_weights(str(weights), model.config["name"])
    return _fill(model, _read_state(path), path)


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

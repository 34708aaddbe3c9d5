"""Reading and writing network weights: ours, the authors' and mmpose's checkpoints.

A weights file of `hwl` is safetensors with the network's configuration as metadata, so that a
file says which network it belongs to and nothing in it can run code.
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
from hwl.models.pose import PoseNet
from hwl.models.zoo import create_model

# Wrappers that training frameworks put around a state dict. mmengine keeps averaged weights in
# "state_dict" and the last raw ones in "ema_state_dict".
WRAPPERS = ("state_dict", "ema_state_dict", "ema", "model")
# Prefixes of other frameworks and what they are here; an empty one drops the prefix.
PREFIXES = {"module.": "", "keypoint_head.": "head."}
DROPPED = (
    "data_preprocessor."  # mmpose 1.x's picture mean and std, which are no part of the network
)
# mmpose 1.x saves numpy arrays (joint weights, colours) beside the weights. To read them takes
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
SHOWN = 5  # keys listed in an error message


def save_weights(model: PoseNet, path: Path) -> None:
    """Write a network's weights and configuration; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    # Written here, for safetensors' own save_file makes files that only their owner can read.
    partial.write_bytes(save(state, metadata={"config": json.dumps(model.config)}))
    partial.replace(path)


def load_model(path: Path) -> PoseNet:
    """The network of a weights file written by `save_weights`, in evaluation mode.

    Raises:
        HwlError: the file is missing, broken or has no configuration.
    """
    try:
        config = json.loads(_metadata(path).get("config", "null"))
    except json.JSONDecodeError:  # another program's metadata
        config = None
    if not isinstance(config, dict) or "name" not in config:
        raise HwlError(
            f"{path} does not say which network it is for: create the model by name and use "
            "hwl.models.load_weights"
        )
    if config.get("backbone") == "torchvision-imagenet":
        config["backbone"] = "torchvision"  # the weights come from this file, not from the net
    config.pop("imagenet", None)
    return load_weights(create_model(**config), path).eval()


def load_weights(model: PoseNet, path: Path | str) -> PoseNet:
    """Load a checkpoint into a network, strictly, and return the network.

    Reads safetensors and PyTorch files (`weights_only=True`, so no code in a pickle runs), the
    keys of `hwl`, of the authors and of mmpose 0.x and 1.x, bare or wrapped by a framework.

    Raises:
        HwlError: the file is missing or broken, or its keys or shapes are another network's.
    """
    path = Path(path)
    names = getattr(model.backbone, "checkpoint_names", {})  # where a backbone is torchvision's
    state = {
        _our_key(key, names): value
        for key, value in _read_state(path).items()
        if not key.startswith(DROPPED)
    }
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
            f"{model.config['num_joints']} joints: {'; '.join(problems)}"
        )
    model.load_state_dict(state)
    return model


def _our_key(key: str, names: dict[str, str]) -> str:
    for prefix, replacement in PREFIXES.items():
        if key.startswith(prefix):
            key = replacement + key.removeprefix(prefix)
    if not key.startswith(BACKBONE):
        return key
    module, _, tensor = key.removeprefix(BACKBONE).rpartition(".")
    return f"{BACKBONE}{names.get(module, module)}.{tensor}"


def _metadata(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise HwlError(f"{path}: there is no such weights file")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        raise HwlError(f"{path} is not a whole safetensors file ({error})") from error


def _read_state(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        _metadata(path)
        return load_file(path)
    if not path.is_file():
        raise HwlError(f"{path}: there is no such weights file")
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
            "fetch it again"
        ) from error
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise HwlError(f"{path} holds no state dict (looked for {', '.join(WRAPPERS)} and at top)")
    return content

"""The five peer models: the same functions as mmpose's, and checkpoints of both its versions."""

from __future__ import annotations

import json
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor

from hwl.errors import HwlError
from hwl.models import PoseNet, create_model, load_model, load_weights, save_weights

PARAMETERS = {
    "mobilenetv2": 9_569_809,
    "shufflenetv2": 7_550_965,
    "vipnas_mbv3": 5_895_725,
    "litehrnet18": 1_130_769,
    "litehrnet30": 1_763_717,
}
FETCHER = "torchvision.models._api.load_state_dict_from_url"

each_peer = pytest.mark.parametrize("name", PARAMETERS)


@cache
def mmpose_state(name: str, reference: Path) -> dict[str, Tensor]:
    """The reference's state dict with mmpose's keys, filled by the rule of its README."""
    shapes = json.loads((reference / "models.json").read_text())[name]["state_dict"]
    statistics = np.load(reference / f"{name}_bn_seed1.npz")
    state = {}
    for key, shape in shapes.items():
        rng = np.random.RandomState(zlib.crc32(key.encode()) ^ 1)
        if key.endswith("num_batches_tracked"):
            value = np.zeros(shape, np.int64)
        elif key in statistics:
            value = statistics[key]
        elif len(shape) == 1:
            norm = key.endswith(".weight")
            value = rng.uniform(0.5, 1.5, shape) if norm else 0.1 * rng.standard_normal(shape)
        else:
            value = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        dtype = torch.int64 if key.endswith("num_batches_tracked") else torch.float32
        state[key] = torch.tensor(value, dtype=dtype)
    return state


def saved(content: object, folder: Path) -> Path:
    path = folder / "checkpoint.pth"
    torch.save(content, path)
    return path


def heatmaps(model: PoseNet, height: int, width: int) -> np.ndarray:
    images = np.random.RandomState(1).standard_normal((2, 3, height, width))
    with torch.no_grad():
        return model.eval()(torch.tensor(images, dtype=torch.float32)).numpy()


@each_peer
def test_parameter_count_is_the_originals(name: str) -> None:
    model = create_model(name)

    count = sum(parameter.numel() for parameter in model.parameters())

    assert count == PARAMETERS[name]


@each_peer
def test_agrees_with_the_original(name: str, shared: Path, tmp_path: Path) -> None:
    reference = shared / "reference"
    expected = np.load(reference / "models_seed1.npz")[name]
    model = load_weights(create_model(name), saved(mmpose_state(name, reference), tmp_path))

    difference = heatmaps(model, 256, 192) - expected

    # Root mean square: single cells of Lite-HRNet-30's reference are 2e-4 off its float64 result.
    assert np.sqrt(np.square(difference).mean()) < 1e-4 * expected.std()


@each_peer
def test_every_parameter_receives_a_gradient(name: str) -> None:
    torch.manual_seed(0)
    model = create_model(name)

    model(torch.randn(2, 3, 64, 64)).square().mean().backward()

    without = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


@each_peer
@pytest.mark.parametrize(("height", "width"), [(384, 288), (128, 96)])
def test_other_sizes_and_keypoints(name: str, height: int, width: int) -> None:
    model = create_model(name, num_keypoints=5)

    result = heatmaps(model, height, width)

    assert result.shape == (2, 5, height // 4, width // 4)


@each_peer
@pytest.mark.parametrize("head", ["keypoint_head.", "head."], ids=["mmpose-0.x", "mmpose-1.x"])
def test_loads_mmpose_checkpoints(name: str, head: str, shared: Path, tmp_path: Path) -> None:
    reference = mmpose_state(name, shared / "reference")
    state = {key.replace("head.", head): value for key, value in reference.items()}

    model = load_weights(create_model(name), saved({"state_dict": state}, tmp_path))

    torch.testing.assert_close(model.head.final_layer.weight, state[f"{head}final_layer.weight"])


def test_passes_over_what_mmpose_saves_beside_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reconstruct = np.empty(0).__reduce__()[0]
    monkeypatch.setattr(reconstruct, "__module__", "numpy.core.multiarray")  # as numpy 1 has it
    model = create_model("litehrnet18")
    state = model.state_dict() | {"data_preprocessor.mean": torch.zeros(3, 1, 1)}
    meta = {"sigmas": np.ones(17, np.float32), "keypoint_colors": np.ones((17, 3), np.uint8)}

    loaded = load_weights(model, saved({"meta": meta, "state_dict": state}, tmp_path))

    assert loaded is model


@each_peer
def test_refuses_another_models_weights(name: str, tmp_path: Path) -> None:
    other = "litehrnet30" if name == "litehrnet18" else "litehrnet18"
    path = saved(create_model(other).state_dict(), tmp_path)

    with pytest.raises(HwlError, match=f"does not fit model '{name}'"):
        load_weights(create_model(name), path)


@each_peer
def test_survives_saving_and_loading(name: str, tmp_path: Path) -> None:
    model = create_model(name)
    path = tmp_path / "weights.safetensors"

    save_weights(model, path)

    torch.testing.assert_close(load_model(path).state_dict(), model.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["mobilenetv2", "shufflenetv2"])
def test_imagenet_starts_from_the_fetched_weights(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    builders = {"mobilenetv2": "mobilenet_v2", "shufflenetv2": "shufflenet_v2_x1_0"}
    fetched = torchvision.models.get_model(builders[name]).state_dict()
    monkeypatch.setattr(FETCHER, lambda *args, **kwargs: fetched)

    model = create_model(name, imagenet=True)

    first = next(value for key, value in fetched.items() if key.endswith("weight"))
    torch.testing.assert_close(next(model.backbone.parameters()).data, first, rtol=0, atol=0)


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise OSError("no model")

    monkeypatch.setattr(FETCHER, unreachable)


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("name", ["mobilenetv2", "shufflenetv2"])
def test_trained_weights_load_without_a_download(name: str, tmp_path: Path) -> None:
    model = create_model(name)
    model.config["imagenet"] = True
    save_weights(model, tmp_path / "weights.safetensors")

    loaded = load_model(tmp_path / "weights.safetensors")

    assert loaded.config["name"] == name


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("name", ["mobilenetv2", "shufflenetv2"])
def test_names_the_file_when_imagenet_weights_cannot_be_fetched(name: str) -> None:
    with pytest.raises(HwlError, match=r"download\.pytorch\.org/models/.*\.pth"):
        create_model(name, imagenet=True)

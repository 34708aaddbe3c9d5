"""Checkpoints of the peers, opened by the model's name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from hwl.errors import HwlError
from hwl.models import PoseNet, create_model, load_weights, open_model


def same_weights(found: PoseNet, expected: PoseNet) -> bool:
    pairs = zip(found.state_dict().items(), expected.state_dict().items(), strict=True)
    return all(key == name and torch.equal(one, other) for (key, one), (name, other) in pairs)


@pytest.fixture(scope="module")
def peer() -> PoseNet:
    """A peer of 5 keypoints whose backbone is torchvision's and has other names in checkpoints."""
    torch.manual_seed(3)
    return create_model("mobilenetv2", 5)


@pytest.mark.parametrize("head", ["keypoint_head.", "head."], ids=["mmpose-0.x", "mmpose-1.x"])
def test_open_model_opens_a_peers_checkpoint_by_name_with_its_own_keypoints(
    peer: PoseNet, tmp_path: Path, head: str
) -> None:
    theirs = {ours: name for name, ours in peer.backbone.checkpoint_names.items()}
    state = {"data_preprocessor.mean": torch.zeros(3, 1, 1)}
    for key, value in peer.state_dict().items():
        part, _, rest = key.partition(".")
        module, _, tensor = rest.rpartition(".")
        state[f"backbone.{theirs[module]}.{tensor}" if part == "backbone" else head + rest] = value
    torch.save({"state_dict": state, "meta": {}}, tmp_path / "theirs.pth")

    found = open_model(str(tmp_path / "theirs.pth"), "mobilenetv2")

    assert found.config == {"name": "mobilenetv2", "num_keypoints": 5}
    assert not found.training
    assert same_weights(found, peer)


def test_open_model_refuses_another_models_checkpoint_in_a_sentence(
    peer: PoseNet, tmp_path: Path
) -> None:
    torch.save(peer.state_dict(), tmp_path / "theirs.pth")

    with pytest.raises(HwlError) as refusal:
        open_model(str(tmp_path / "theirs.pth"), "shufflenetv2")

    message = str(refusal.value)
    assert "theirs.pth does not fit model 'shufflenetv2' with 5 keypoints: " in message
    assert message.count("\n") == 0 and len(message) < 1000


@pytest.mark.parametrize(
    "state",
    [{"fc.weight": torch.zeros(17, 9)}, {"head.final_layer.weight": torch.tensor(17.0)}],
    ids=["absent", "of no dimension"],
)
def test_open_model_names_the_last_layer_that_is_not_there(
    state: dict[str, Tensor], tmp_path: Path
) -> None:
    torch.save(state, tmp_path / "theirs.pth")

    with pytest.raises(HwlError, match=r"theirs\.pth has no head\.final_layer\.weight"):
        open_model(str(tmp_path / "theirs.pth"), "litehrnet18")


def test_open_model_refuses_an_unknown_model(peer: PoseNet, tmp_path: Path) -> None:
    torch.save(peer.state_dict(), tmp_path / "theirs.pth")

    with pytest.raises(HwlError, match="'mobilenet' is not one of ours, mobilenetv2"):
        open_model(str(tmp_path / "theirs.pth"), "mobilenet")


def test_openmmlab_without_a_model_is_refused_with_the_five() -> None:
    with pytest.raises(HwlError, match=r"one of mobilenetv2, .*, litehrnet30; it is ''"):
        open_model("openmmlab")


def test_published_weights_are_those_of_the_models_own_name(
    peer: PoseNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(peer.state_dict(), tmp_path / "fetched.pth")
    files = {("openmmlab", "mobilenetv2"): tmp_path / "fetched.pth"}
    monkeypatch.setattr("hwl.models.weights.fetch_weights", lambda *asked: files[asked])

    loaded = load_weights(create_model("mobilenetv2", 5), "openmmlab")
    opened = open_model("openmmlab", "mobilenetv2")

    assert same_weights(loaded, peer)
    assert same_weights(opened, peer)


@pytest.mark.parametrize("model", ["", "mobilenetv2"])
def test_an_onnx_file_is_refused_with_what_to_give_instead(model: str, tmp_path: Path) -> None:
    (tmp_path / "ours-int8.onnx").write_bytes(b"a graph")

    with pytest.raises(HwlError, match=r"int8\.onnx is for other programs: give the \.safetensors"):
        open_model(tmp_path / "ours-int8.onnx", model)

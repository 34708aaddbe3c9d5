"""Weights files: what is written is read back, and what does not belong is refused by name."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from hwl.errors import HwlError
from hwl.models import PoseNet, create_model, load_model, load_weights, open_model, save_weights

OPTIONS = {"attention": ["none", "channel", "full"], "hard_sigmoid": "(x+1)/2"}


def new_model(seed: int = 0, **options: object) -> PoseNet:
    """A model whose every tensor, running statistics too, depends on the seed."""
    torch.manual_seed(seed)
    model = create_model("ours", **options).eval()
    for value in model.state_dict().values():
        value.copy_(torch.randint(0, 9, value.shape) + 0.5)
    return model


@pytest.fixture(scope="module")
def model() -> PoseNet:
    return new_model()


@pytest.fixture
def fresh() -> PoseNet:
    return new_model(seed=1)


def assert_same_weights(found: PoseNet, expected: PoseNet) -> None:
    states = found.state_dict(), expected.state_dict()
    assert states[0].keys() == states[1].keys()
    for key in states[0]:
        assert torch.equal(states[0][key], states[1][key]), key


def as_authors(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        key.replace("head.", "keypoint_head.", 1) if key.startswith("head.") else key: value
        for key, value in state.items()
    }


def test_a_saved_model_comes_back_exactly(model: PoseNet, fresh: PoseNet, tmp_path: Path) -> None:
    save_weights(model, tmp_path / "new folder" / "best.safetensors")

    assert_same_weights(load_weights(fresh, tmp_path / "new folder" / "best.safetensors"), model)


def test_load_model_restores_the_options_without_being_told(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    model = new_model(num_keypoints=14, **OPTIONS)
    save_weights(model, path)

    found = load_model(path)

    assert found.config == {"name": "ours", "num_keypoints": 14, **OPTIONS}
    assert not found.training
    assert_same_weights(found, model)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():  # the hard sigmoid has no weights: only the output tells it apart
        assert torch.equal(found(images), model(images))


def test_load_model_does_not_fetch_imagenet_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_model(imagenet: bool) -> None:
        raise AssertionError("asked for ImageNet weights")

    model = new_model(backbone="torchvision")
    model.config["backbone"] = "torchvision-imagenet"
    save_weights(model, tmp_path / "best.safetensors")
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", no_model)

    assert_same_weights(load_model(tmp_path / "best.safetensors"), model)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "ema_state_dict", "model"])
@pytest.mark.parametrize("authors", [False, True], ids=["our keys", "authors' keys"])
def test_other_frameworks_checkpoints_load(
    model: PoseNet, fresh: PoseNet, tmp_path: Path, prefix: str, wrapper: str | None, authors: bool
) -> None:
    state = as_authors(model.state_dict()) if authors else model.state_dict()
    state = {prefix + key: value for key, value in state.items()}
    checkpoint = state if wrapper is None else {wrapper: state, "epoch": 210, "meta": {"a": "b"}}
    torch.save(checkpoint, tmp_path / "theirs.pth")

    assert_same_weights(load_weights(fresh, tmp_path / "theirs.pth"), model)


def test_authors_keys_load_from_safetensors_too(
    model: PoseNet, fresh: PoseNet, tmp_path: Path
) -> None:
    save_file(as_authors(model.state_dict()), tmp_path / "theirs.safetensors")

    assert_same_weights(load_weights(fresh, tmp_path / "theirs.safetensors"), model)


def test_numpy_arrays_beside_the_weights_are_no_obstacle(
    model: PoseNet, fresh: PoseNet, tmp_path: Path
) -> None:
    # mmpose 1.x keeps its data set's constants with the weights.
    constants = {"sigmas": np.ones(17, np.float32), "colors": np.zeros((17, 3), np.uint8)}
    checkpoint = {"state_dict": model.state_dict(), "meta": {"dataset_meta": constants}}
    torch.save(checkpoint, tmp_path / "theirs.pth")

    assert_same_weights(load_weights(fresh, tmp_path / "theirs.pth"), model)


def test_averaged_weights_are_preferred(model: PoseNet, fresh: PoseNet, tmp_path: Path) -> None:
    # mmengine exchanges the two when it saves: the averaged weights are in "state_dict".
    checkpoint = {
        "ema_state_dict": new_model(seed=2).state_dict(),
        "state_dict": model.state_dict(),
    }
    torch.save(checkpoint, tmp_path / "theirs.pth")

    assert_same_weights(load_weights(fresh, tmp_path / "theirs.pth"), model)


@pytest.mark.parametrize("share", [0, 1e-6, 0.001, 0.5, 0.999])
def test_a_truncated_safetensors_file_is_refused(
    model: PoseNet, fresh: PoseNet, tmp_path: Path, share: float
) -> None:
    path = tmp_path / "best.safetensors"
    save_weights(model, path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])

    with pytest.raises(HwlError, match=r"best\.safetensors is not a whole"):
        load_weights(fresh, path)
    with pytest.raises(HwlError, match=r"best\.safetensors is not a whole"):
        load_model(path)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before torch 1.6"])
def test_a_truncated_pth_is_refused_wherever_it_ends(
    fresh: PoseNet, tmp_path: Path, zipped: bool
) -> None:
    path = tmp_path / "theirs.pth"
    torch.save({"a": torch.zeros(3)}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()

    # torch fails with a dozen kinds of exception, by where the file ends.
    for length in range(0, len(whole), 5):
        path.write_bytes(whole[:length])
        with pytest.raises(HwlError, match=r"theirs\.pth"):
            load_weights(fresh, path)


@pytest.mark.parametrize("content", [b"<!DOCTYPE html><html>404</html>", b"hello", b"\x80\x02)Rq"])
def test_a_file_of_another_kind_is_refused_as_broken(
    fresh: PoseNet, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "page.pth").write_bytes(content)

    with pytest.raises(HwlError, match=r"page\.pth is broken, truncated or no PyTorch file"):
        load_weights(fresh, tmp_path / "page.pth")


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return open, (str(self.marker), "w")


def test_a_pickle_with_code_is_refused_and_does_not_run(fresh: PoseNet, tmp_path: Path) -> None:
    path, marker = tmp_path / "trap.pth", tmp_path / "the trap ran"
    torch.save({"state_dict": fresh.state_dict(), "meta": Trap(marker)}, path)

    with pytest.raises(HwlError, match=r"trap\.pth.*could run code"):
        load_weights(fresh, path)

    assert not marker.exists()
    torch.load(path, weights_only=False)["meta"].close()
    assert marker.exists()  # the trap was armed


def test_a_bare_pickle_with_code_does_not_run(fresh: PoseNet, tmp_path: Path) -> None:
    path, marker = tmp_path / "trap.pth", tmp_path / "the trap ran"
    path.write_bytes(pickle.dumps(Trap(marker), protocol=2))  # the one that torch writes

    with pytest.raises(HwlError, match=r"trap\.pth"):
        load_weights(fresh, path)

    assert not marker.exists()


def test_another_models_checkpoint_is_refused_with_the_keys_that_differ(tmp_path: Path) -> None:
    save_weights(new_model(backbone="torchvision"), tmp_path / "other.safetensors")
    model, untouched = new_model(seed=1), new_model(seed=1)

    with pytest.raises(HwlError) as refusal:
        load_weights(model, tmp_path / "other.safetensors")

    message = str(refusal.value)
    assert "other.safetensors does not fit model 'ours' with 17 keypoints" in message
    assert "missing (backbone.conv1.bn.bias, " in message
    assert "unexpected (backbone.0.0.weight, " in message
    assert_same_weights(model, untouched)


def test_another_keypoint_count_is_refused_with_the_tensors_of_other_shape(
    model: PoseNet, tmp_path: Path
) -> None:
    save_weights(model, tmp_path / "coco.safetensors")

    with pytest.raises(
        HwlError,
        match=r"14 keypoints: 2 of other shape \(head\.final_layer\.bias, head\.final_layer\.w",
    ):
        load_weights(create_model("ours", 14), tmp_path / "coco.safetensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(
    value: float, model: PoseNet, fresh: PoseNet, tmp_path: Path
) -> None:
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    state["head.final_layer.bias"][3] = value
    torch.save(state, tmp_path / "best.pth")

    with pytest.raises(HwlError, match=r"best\.pth holds numbers in head\.final_layer\.bias that"):
        load_weights(fresh, tmp_path / "best.pth")


@pytest.mark.parametrize(
    "content",
    [[1, 2], {"state_dict": {"a": 1}}, {1: torch.zeros(2)}, torch.zeros(2)],
    ids=["list", "number", "numbered", "tensor"],
)
def test_a_file_without_a_state_dict_is_refused(
    fresh: PoseNet, tmp_path: Path, content: object
) -> None:
    torch.save(content, tmp_path / "theirs.pth")

    with pytest.raises(HwlError, match=r"theirs\.pth holds no state dict"):
        load_weights(fresh, tmp_path / "theirs.pth")


@pytest.mark.parametrize("name", ["none.safetensors", "none.pth"])
def test_a_missing_file_is_named(fresh: PoseNet, tmp_path: Path, name: str) -> None:
    with pytest.raises(HwlError, match=f"{name}: there is no such"):
        load_weights(fresh, str(tmp_path / name))
    with pytest.raises(HwlError, match=f"{name}: there is no such"):
        load_model(tmp_path / name)


@pytest.mark.parametrize(
    "metadata",
    [None, {"format": "pt"}, {"config": "yaml: yes"}, {"config": json.dumps(["ours"])}],
    ids=str,
)
def test_load_model_refuses_weights_that_do_not_say_whose_they_are(
    tmp_path: Path, metadata: dict[str, str] | None
) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "bare.safetensors", metadata)

    with pytest.raises(HwlError, match=r"bare\.safetensors does not say which model"):
        load_model(tmp_path / "bare.safetensors")


def test_a_checkpoint_of_pytorch_does_not_say_which_model_it_is_for(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "theirs.pth")

    with pytest.raises(HwlError, match=r"theirs\.pth does not say which .* by `model`.*ours, "):
        load_model(tmp_path / "theirs.pth")


@pytest.mark.parametrize("kind", [str, Path])
def test_open_model_needs_no_name_for_a_weights_file_of_ours(
    model: PoseNet, tmp_path: Path, kind: type
) -> None:
    save_weights(model, tmp_path / "best.safetensors")

    assert_same_weights(open_model(kind(tmp_path / "best.safetensors")), model)


def test_open_model_refuses_a_pickle_with_code_and_does_not_run_it(tmp_path: Path) -> None:
    path, marker = tmp_path / "trap.pth", tmp_path / "the trap ran"
    torch.save({"state_dict": {}, "meta": Trap(marker)}, path)

    with pytest.raises(HwlError, match=r"trap\.pth.*could run code"):
        open_model(str(path), "litehrnet18")

    assert not marker.exists()


def test_a_failing_save_leaves_the_old_file_intact(
    model: PoseNet, fresh: PoseNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "best.safetensors"
    save_weights(model, path)
    before = path.read_bytes()

    def full_disk(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[:12])
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OSError, match="no space left"):
        save_weights(fresh, path)

    assert path.read_bytes() == before


def test_saving_over_a_file_replaces_it(model: PoseNet, fresh: PoseNet, tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    save_weights(fresh, path)
    save_weights(model, path)

    assert_same_weights(load_model(path), model)
    assert [file.name for file in tmp_path.iterdir()] == ["best.safetensors"]


def test_a_checkpoint_that_may_not_be_read_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "theirs.pth").touch()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(torch, "load", refuse)

    with pytest.raises(HwlError, match=r"theirs\.pth cannot be read: Permission denied$"):
        open_model(str(tmp_path / "theirs.pth"), "ours")

"""From a weights file to a Predictor, and from one kind of weights file to another."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import hwl
from hwl.errors import HwlError
from hwl.inference.config import PredictorConfig
from hwl.inference.load import load, write_model
from hwl.models import Description, PoseNet, create_model, open_model, save_weights
from hwl.skeletons import COCO, LSP

IMAGE = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, ordinary: Callable[..., PoseNet]) -> Path:
    """Of a model that describes itself: COCO's keypoints at 64x32."""
    model = ordinary("ours", 17)
    model.describe(Description(skeleton=COCO, input_size=(64, 32), sigma=1.5))
    path = tmp_path_factory.mktemp("weights") / "best.safetensors"
    save_weights(model, path)
    return path


def test_the_public_face_is_there_and_imports_nothing_before_it_is_asked_for() -> None:
    code = (
        "import sys, hwl; assert set(hwl.__all__) < set(dir(hwl)); "
        "print('torch' in sys.modules, 'numpy' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "False False\n"
    for name in hwl.__all__:
        assert getattr(hwl, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = hwl.lod


def test_an_image_in_keypoints_out_from_another_folder(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "photo.jpg"), IMAGE)
    monkeypatch.chdir(tmp_path)

    poses = hwl.load(weights)("photo.jpg", boxes_xywh=[[5, 5, 40, 60], [10, 20, 30, 40]])

    assert poses.keypoints.shape == (2, 17, 2)


def test_the_weights_own_size_sigma_and_keypoints_are_used(weights: Path) -> None:
    predictor = load(weights, device="cpu")

    assert predictor.codec.input_size == (64, 32) and predictor.codec.sigma == 1.5
    assert predictor.skeleton == COCO and predictor.runtime == "eager"
    assert predictor(IMAGE).keypoints.shape == (1, 17, 2)


def test_another_size_is_refused_with_both_unless_asked_for_by_name(weights: Path) -> None:
    with pytest.raises(HwlError, match="is of input size 64x32, asked for is 96x32"):
        load(weights, input_height=96)

    assert load(weights, input_height=96, allow_other_size=True).codec.input_size == (96, 32)
    assert load(weights, input_height=64, input_width=32).codec.input_size == (64, 32)


def test_an_unknown_option_is_refused_by_the_nearest(weights: Path) -> None:
    with pytest.raises(HwlError, match="did you mean 'flip'"):
        load(weights, flop=True)


def test_mean_and_deviation_are_the_weights_own(weights: Path, tmp_path: Path) -> None:
    model = open_model(weights)
    model.describe(
        Description(skeleton=COCO, input_size=(64, 32), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 1.0))
    )
    save_weights(model, tmp_path / "other.safetensors")

    loaded = load(tmp_path / "other.safetensors", device="cpu").model

    white = torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)
    assert loaded.preprocess(white).flatten().tolist() == [1, 1, 0.5]
    assert loaded.state_dict().keys() == create_model("ours").state_dict().keys()


def test_a_checkpoint_that_says_nothing_is_taken_for_a_known_skeleton_and_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    torch.save(create_model("ours", 14).state_dict(), tmp_path / "theirs.pth")

    predictor = load(tmp_path / "theirs.pth", model="ours", device="cpu")
    sized = load(
        tmp_path / "theirs.pth",
        model="ours",
        device="cpu",
        input_height=64,
        input_width=64,
    )

    assert predictor.skeleton == LSP and predictor.codec.input_size == (256, 192)
    assert sized.codec.input_size == sized.model.description.input_size == (64, 64)
    assert "its 14 keypoints are taken for those of LSP-14" in capsys.readouterr().out


def test_keypoints_of_no_known_set_are_refused(tmp_path: Path) -> None:
    save_weights(create_model("ours", 3), tmp_path / "three.safetensors")

    with pytest.raises(HwlError, match=r"three\.safetensors predicts 3 keypoints of no known set"):
        load(tmp_path / "three.safetensors")


def test_weights_are_exported_as_safetensors_with_their_configuration(
    tmp_path: Path, ordinary: Callable[..., PoseNet]
) -> None:
    model = ordinary("shufflenetv2", 17)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "theirs.pth")

    how = PredictorConfig(model="shufflenetv2", input_height=128)
    write_model(tmp_path / "ours.safetensors", tmp_path / "theirs.pth", how)

    loaded = open_model(tmp_path / "ours.safetensors")
    assert loaded.config == {"name": "shufflenetv2", "num_keypoints": 17}
    assert loaded.description == Description(skeleton=COCO, input_size=(128, 192))
    with torch.inference_mode():
        images = torch.randn(1, 3, 64, 64)
        assert torch.equal(loaded(images), model(images))


def test_a_folder_stands_for_the_weights_in_it_as_they_are_shared_or_trained(
    weights: Path, tmp_path: Path
) -> None:
    write_model(tmp_path / "shared/model.safetensors", weights, PredictorConfig())

    expected = load(weights, flip=False)(IMAGE)
    for folder in (tmp_path / "shared", str(weights.parent)):
        found = load(folder, flip=False)
        np.testing.assert_array_equal(found(IMAGE).keypoints, expected.keypoints)
        assert found.model.description.input_size == (64, 32)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        HwlError, match=r"holds no model\.safetensors and no best\.safetensors: name"
    ):
        load(tmp_path)


def test_another_kind_of_file_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(HwlError, match=r"net\.pb: .* must end in \.onnx or \.safetensors"):
        write_model(tmp_path / "net.pb", tmp_path / "missing.safetensors", PredictorConfig())


def test_a_file_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "net.safetensors").write_text("mine")

    with pytest.raises(HwlError, match=r"net\.safetensors is there already: delete it, or"):
        weights = tmp_path / "net.safetensors"
        write_model(tmp_path / "net.safetensors", weights, PredictorConfig())

    assert (tmp_path / "net.safetensors").read_text() == "mine"


def test_a_link_to_nowhere_is_not_replaced(tmp_path: Path) -> None:
    link = tmp_path / "net.safetensors"
    link.symlink_to(tmp_path / "gone.safetensors")

    with pytest.raises(HwlError, match=r"net\.safetensors is there already"):
        write_model(link, "w.safetensors", PredictorConfig())

    assert link.is_symlink()


def test_int8_safetensors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(HwlError, match="saved in float32"):
        how = PredictorConfig(calibration_data="data")
        write_model(tmp_path / "net.safetensors", "w.safetensors", how)


def test_an_int8_file_is_written_with_calibration_images(
    tmp_path: Path,
    puppets: Path,
    ordinary: Callable[..., PoseNet],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = ordinary("ours", num_keypoints=17)
    model.describe(Description(skeleton=COCO, input_size=(64, 64)))
    save_weights(model, tmp_path / "weights.safetensors")
    given: list[torch.Tensor] = []
    monkeypatch.setattr(
        "hwl.inference.export.onnx_bytes", lambda *values: given.append(values[2]) or b"file"
    )

    write_model(
        tmp_path / "net.onnx",
        tmp_path / "weights.safetensors",
        PredictorConfig(calibration_data=str(puppets)),
    )

    (crops,) = given
    assert crops.dtype == torch.float32 and crops.shape[1:] == (3, 64, 64)
    assert abs(float(crops.mean())) < 3 and float(crops.min()) < 0  # normalized
    assert (tmp_path / "net.onnx").read_bytes() == b"file"
    assert [path.name for path in tmp_path.glob("net*")] == ["net.onnx"]


@pytest.mark.parametrize(
    ("device", "message"),
    [("gpu", "device 'gpu' is none of PyTorch's"), ("cuda", "needs a GPU, and PyTorch finds none")],
)
def test_a_device_that_is_not_there_is_one_error(
    weights: Path, monkeypatch: pytest.MonkeyPatch, device: str, message: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with pytest.raises(HwlError, match=message):
        load(weights, device=device)

"""Detectors: boxes of torchvision's classes, and detections files."""

from __future__ import annotations

import errno
import json
import tempfile
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import detection as classes

from hwl.data.annotations import load_detections, load_split
from hwl.errors import HwlError
from hwl.inference.config import DetectConfig
from hwl.inference.detection import TorchvisionDetector, detect_split, open_detector

IMAGE = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)


class Found(nn.Module):
    """Answers as torchvision's detectors do: corners, labels, scores."""

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        (image,) = images
        assert image.shape == (3, 90, 70) and 0 <= image.min() < image.max() <= 1
        corners = [[1, 2, 11, 32], [0, 0, 70, 90], [5, 5, 5, 9], [3, 3, 6, 7], [2, 2, 8, 8]]
        return [
            {
                "boxes": torch.tensor(corners, dtype=torch.float32),
                "labels": torch.tensor([1, 2, 1, 1, 1]),
                "scores": torch.tensor([0.5, 0.9, 0.8, 0.7, 0.1]),
            }
        ]


def test_persons_come_as_boxes_the_surest_first() -> None:
    boxes, scores = TorchvisionDetector(Found(), person=1, least_score=0.3)(IMAGE)

    # Another class, a box of no width and one that is not sure enough are left out.
    assert boxes.tolist() == [[3, 3, 3, 4], [1, 2, 10, 30]]
    assert scores.tolist() == pytest.approx([0.7, 0.5])


@pytest.mark.parametrize("kind", ["fasterrcnn_mobilenet_v3_large_320_fpn", "ssdlite320"])
def test_torchvisions_own_classes_fit_on_random_weights(kind: str) -> None:
    torch.manual_seed(0)
    if kind == "ssdlite320":
        model: nn.Module = classes.ssdlite320_mobilenet_v3_large(
            weights=None, weights_backbone=None, score_thresh=0.0
        )
    else:
        model = classes.fasterrcnn_mobilenet_v3_large_320_fpn(
            weights=None, weights_backbone=None, box_score_thresh=0.0
        )

    boxes, scores = TorchvisionDetector(model)(IMAGE)

    assert boxes.shape == (len(scores), 4) and boxes.dtype == scores.dtype == np.float64
    assert (boxes[:, 2:] > 0).all() and (boxes[:, :2] + boxes[:, 2:] <= (70.01, 90.01)).all()
    assert (np.diff(scores) <= 0).all()


def test_an_unknown_detector_is_refused_with_those_of_torchvision() -> None:
    with pytest.raises(
        HwlError, match=r"'yolo' is not one of torchvision's .*fasterrcnn_mobilenet"
    ):
        open_detector("yolo", 0.5)


def test_without_a_network_the_remedies_are_named_and_the_size_was_said_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        assert "fetching the weights of detector ssdlite320" in capsys.readouterr().out
        raise URLError("no route")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)

    with pytest.raises(HwlError, match="--box, --boxes FILE or --whole-image") as refusal:
        open_detector("ssdlite320_mobilenet_v3_large", 0.5)

    assert "no route" in str(refusal.value)


def test_an_opened_detector_knows_the_label_of_persons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.models, "get_model", lambda *_, **__: Found())

    detector = open_detector("fasterrcnn_resnet50_fpn_v2", 0.6)

    assert detector(IMAGE)[1].tolist() == pytest.approx([0.7])


def test_a_detections_file_of_a_split_is_what_evaluation_reads(
    puppets: Path, tmp_path: Path
) -> None:
    annotations = load_split(puppets, "val2017")
    asked = []

    def detector(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        asked.append(image)
        number = len(asked)
        return np.array([[number, 2.004, 30, 40]]), np.array([0.5 / number])

    path = detect_split(
        DetectConfig(data=str(puppets), output=str(tmp_path / "found.json")), detector
    )

    entries = json.loads(path.read_text())
    assert set(entries[0]) == {"image_id", "category_id", "bbox", "score"}
    boxes = load_detections(path, annotations)
    assert boxes.image_index.tolist() == list(range(len(annotations.image_ids)))
    np.testing.assert_allclose(boxes.boxes[1], [2, 2, 30, 40])
    assert boxes.scores.tolist() == pytest.approx([0.5, 0.25, 0.5 / 3], abs=1e-5)
    for index, image in enumerate(asked):
        np.testing.assert_array_equal(image, annotations.read_image(index))


def test_a_file_that_is_there_is_not_overwritten(puppets: Path, tmp_path: Path) -> None:
    (tmp_path / "found.json").write_text("mine")

    with pytest.raises(HwlError, match=r"found\.json is there already"):
        detect_split(DetectConfig(data=str(puppets), output=str(tmp_path / "found.json")))

    assert (tmp_path / "found.json").read_text() == "mine"


def test_no_person_at_all_is_an_error_and_no_file(puppets: Path, tmp_path: Path) -> None:
    config = DetectConfig(data=str(puppets), output=str(tmp_path / "found.json"))

    with pytest.raises(HwlError, match="finds no person"):
        detect_split(config, lambda image: (np.zeros((0, 4)), np.zeros(0)))

    assert not (tmp_path / "found.json").exists()


def test_a_place_that_cannot_be_written_is_told_before_anything_is_detected(
    puppets: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    config = DetectConfig(data=str(puppets), output=str(tmp_path / "file/found.json"))

    with pytest.raises(HwlError, match=r"file/found\.json: cannot be written"):
        detect_split(config, lambda image: pytest.fail("detected"))


def test_a_folder_without_permission_is_told_before_anything_is_detected(
    puppets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(dir: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)  # root may write everywhere
    config = DetectConfig(data=str(puppets), output=str(tmp_path / "found.json"))

    with pytest.raises(HwlError, match=r"found\.json: cannot be written \(Permission denied\)"):
        detect_split(config, lambda image: pytest.fail("detected"))

"""Photographs and videos: who is found, what is drawn and written, and what is left alone."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pycocotools.coco import COCO as Truth

from hwl.errors import HwlError
from hwl.inference.config import PredictConfig
from hwl.inference.detection import Detector
from hwl.inference.predict import predict_files
from hwl.models import Description, PoseNet, save_weights
from hwl.skeletons import LSP

BOXES = [(5.0, 5.0, 40.0, 60.0), (20.0, 10.0, 30.0, 70.0)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, ordinary: Callable[..., PoseNet]) -> Path:
    model = ordinary("ours", 14)
    torch.nn.init.ones_(model.head.final_layer.bias)  # scores that are drawn
    model.describe(Description(skeleton=LSP, input_size=(64, 64)))
    path = tmp_path_factory.mktemp("weights") / "ours.safetensors"
    save_weights(model, path)
    return path


def images_in(folder: Path, *names: str) -> list[Path]:
    paths = [folder / name for name in names]
    for number, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True, parents=True)
        noise = np.random.default_rng(number).integers(0, 256, (90, 70, 3), dtype=np.uint8)
        cv2.imwrite(str(path), noise)
    return paths


def run(
    weights: Path, output: Path, *names: object, detector: Detector | None = None, **how: object
) -> list[Path]:
    config = PredictConfig(**{"weights": str(weights), "output": str(output), "flip": False, **how})
    return predict_files(tuple(map(str, names)), config, detector)


def results(output: Path) -> tuple[list[dict], list[dict]]:
    listing = json.loads((output / "images.json").read_text())
    return json.loads((output / "keypoints_results.json").read_text()), listing["images"]


def tree(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_drawings_and_results_of_every_box_are_written(tmp_path: Path, weights: Path) -> None:
    paths = images_in(tmp_path, "a.jpg", "b.png")
    output = tmp_path / "new/output"

    drawings = run(weights, output, *paths, box=BOXES)

    assert drawings == [output / "a.png", output / "b.png"]
    for path, drawing in zip(paths, drawings, strict=True):
        drawn = cv2.imread(str(drawing))
        assert drawn.shape == (90, 70, 3) and (drawn != cv2.imread(str(path))).any()
    persons, images = results(output)
    assert [person["image_id"] for person in persons] == [1, 1, 2, 2]
    assert [image["file_name"] for image in images] == [str(path) for path in paths]
    assert all(len(person["keypoints"]) == 14 * 3 for person in persons)


def test_the_results_are_read_by_pycocotools(tmp_path: Path, weights: Path) -> None:
    output = tmp_path / "output"
    run(weights, output, *images_in(tmp_path, "a.jpg"), whole_image=True)

    read = Truth(str(output / "images.json"))
    read.dataset["annotations"] = []
    found = read.loadRes(str(output / "keypoints_results.json"))

    assert len(found.anns) == 1
    assert read.loadCats([1])[0]["keypoints"] == list(LSP.keypoints)


def test_a_folder_stands_for_its_images_and_a_glob_for_what_it_matches(
    tmp_path: Path, weights: Path
) -> None:
    images_in(tmp_path / "photos", "b.JPG", "a.png", "below/c.png")
    (tmp_path / "photos/notes.txt").write_text("no image")

    of_folder = run(weights, tmp_path / "one", tmp_path / "photos", whole_image=True)
    of_glob = run(weights, tmp_path / "two", tmp_path / "photos/**/*.png", whole_image=True)
    named_twice = run(
        *(weights, tmp_path / "three", tmp_path / "photos", tmp_path / "photos/a.png"),
        whole_image=True,
    )

    assert [path.name for path in of_folder] == ["a.png", "b.png"]
    assert [path.name for path in of_glob] == ["a.png", "c.png"]
    assert [path.name for path in named_twice] == ["a.png", "b.png"]


def test_two_images_of_one_name_get_drawings_of_two_names(tmp_path: Path, weights: Path) -> None:
    images_in(tmp_path, "one/a.jpg", "two/a.jpg")

    drawings = run(weights, tmp_path / "o", tmp_path / "one", tmp_path / "two", whole_image=True)

    assert [path.name for path in drawings] == ["a.png", "a-2.png"]
    assert all(path.is_file() for path in drawings)


def test_the_detected_persons_are_predicted_with_their_scores_and_drawn_together(
    tmp_path: Path, weights: Path
) -> None:
    asked = []

    def detector(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        asked.append(image.shape)
        count = len(BOXES) if len(asked) == 1 else 0
        return np.array(BOXES[:count]).reshape(-1, 4), np.array([0.9, 0.5][:count])

    output = tmp_path / "output"
    paths = images_in(tmp_path, "a.jpg", "empty.jpg")
    drawings = run(weights, output, *paths, detector=detector)
    run(weights, tmp_path / "given", *paths[:1], box=BOXES)

    persons, _ = results(output)
    given, _ = results(tmp_path / "given")
    assert asked == [(90, 70, 3)] * 2 and len(drawings) == 2
    assert [person["image_id"] for person in persons] == [1, 1]
    for person, same, sure in zip(persons, given, (0.9, 0.5), strict=True):
        assert person["keypoints"] == same["keypoints"]
        assert person["score"] == pytest.approx(sure * same["score"])
    assert (output / "a.png").read_bytes() == (tmp_path / "given/a.png").read_bytes()


def test_boxes_come_from_a_file_by_the_images_names(tmp_path: Path, weights: Path) -> None:
    paths = images_in(tmp_path, "a.jpg", "b.jpg")
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"a.jpg": [BOXES[0]], "b.jpg": []}))

    run(weights, tmp_path / "output", *paths, boxes=str(boxes))

    assert [person["image_id"] for person in results(tmp_path / "output")[0]] == [1]
    boxes.write_text(json.dumps({"a.jpg": [BOXES[0]]}))
    with pytest.raises(HwlError, match=r"b\.jpg: the file of boxes has no entry 'b\.jpg'"):
        run(tmp_path / "no weights are read", tmp_path / "other", *paths, boxes=str(boxes))
    boxes.write_text('{"a.jpg": [[1, 2]]}')
    with pytest.raises(HwlError, match=r"boxes\.json: must be JSON like"):
        run(weights, tmp_path / "other", *paths, boxes=str(boxes))


def test_a_video_is_drawn_as_a_video_with_results_for_each_frame(
    tmp_path: Path, weights: Path
) -> None:
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 12.5, (64, 96))
    for brightness in range(20):
        writer.write(np.full((96, 64, 3), 10 * brightness, np.uint8))
    writer.release()

    (drawing,) = run(weights, tmp_path / "output", path, whole_image=True)

    video = cv2.VideoCapture(str(drawing))
    assert drawing.name == "clip.mp4"
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 20
    assert video.get(cv2.CAP_PROP_FPS) == 12.5
    persons, images = results(tmp_path / "output")
    assert [image["frame"] for image in images] == list(range(20))
    assert [person["image_id"] for person in persons] == list(range(1, 21))


def test_an_unreadable_image_is_named_and_nothing_is_left(tmp_path: Path, weights: Path) -> None:
    paths = [*images_in(tmp_path, "a.jpg"), tmp_path / "broken.jpg"]
    paths[1].write_text("no image")
    before = tree(tmp_path)

    with pytest.raises(HwlError, match=r"broken\.jpg: cannot be decoded"):
        run(weights, tmp_path / "output", *paths, whole_image=True)

    assert tree(tmp_path) == before and not (tmp_path / "output").exists()


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (".", "is or holds '.*', which it reads"),
        ("photos", "is or holds '.*', which it reads"),
        ("other", "holds files and no run"),
    ],
)
def test_no_file_is_overwritten_in_a_folder_that_predict_did_not_make(
    output: str, message: str, tmp_path: Path, weights: Path
) -> None:
    images_in(tmp_path, "photos/a.jpg", "photos/a.png", "other/a.png")
    (tmp_path / "other/images.json").write_text("{}")  # as predict calls its list
    before = tree(tmp_path)

    with pytest.raises(HwlError, match=message):
        run(weights, tmp_path / output, tmp_path / "photos", whole_image=True)

    assert tree(tmp_path) == before


def test_a_users_file_under_a_drawings_name_is_kept(tmp_path: Path, weights: Path) -> None:
    (first, second) = images_in(tmp_path, "a.jpg", "b.jpg")
    output = tmp_path / "output"
    run(weights, output, first, whole_image=True)
    (output / "b.png").write_text("mine")
    before = tree(output)

    with pytest.raises(HwlError, match=r"b\.png was made by no run and is in the way"):
        run(weights, output, second, whole_image=True)

    assert tree(output) == before


def test_an_image_in_an_earlier_output_is_not_overwritten(tmp_path: Path, weights: Path) -> None:
    output = tmp_path / "output"
    (drawing,) = run(weights, output, *images_in(tmp_path, "a.jpg"), whole_image=True)
    before = tree(output)

    with pytest.raises(HwlError, match=r"is or holds '.*a\.png', which it reads"):
        run(weights, output, drawing, whole_image=True)

    assert tree(output) == before


def test_predicting_again_into_its_own_output_replaces_the_results(
    tmp_path: Path, weights: Path
) -> None:
    paths = images_in(tmp_path, "a.jpg", "b.jpg")

    run(weights, tmp_path / "output", *paths, whole_image=True)
    run(weights, tmp_path / "output", paths[1], box=BOXES)

    persons, images = results(tmp_path / "output")
    assert len(persons) == 2 and [image["file_name"] for image in images] == [str(paths[1])]
    assert not (tmp_path / "output/a.png").exists()  # it would not be what images.json lists


def test_a_drawing_that_cannot_be_written_is_not_listed(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, image: np.ndarray) -> None:
        raise HwlError(f"{path}: cannot be written (No space left on device)")

    monkeypatch.setattr("hwl.inference.predict.write_image", full)

    with pytest.raises(HwlError, match="cannot be written"):
        run(weights, tmp_path / "output", *images_in(tmp_path, "a.jpg"), whole_image=True)

    assert not (tmp_path / "output").exists()


def test_one_way_to_say_where_persons_are_is_enough(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(HwlError, match="give one of --box, --boxes and --whole-image"):
        run(weights, tmp_path / "o", *images_in(tmp_path, "a.jpg"), box=BOXES, whole_image=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.jpg", r"gone\.jpg: there is no such file"),
        ("*.bmp", r"\*\.bmp: no file matches"),
        ("empty", "empty: no image or video lies in this folder"),
        ("text.mp4", r"text\.mp4: cannot be read as a video"),
    ],
)
def test_a_name_that_stands_for_no_image_is_refused(
    name: str, message: str, tmp_path: Path, weights: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mp4").write_text("no video")

    with pytest.raises(HwlError, match=message):
        run(weights, tmp_path / "output", tmp_path / name, whole_image=True)


def test_a_box_outside_an_image_names_the_image(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(HwlError, match=r"a\.jpg: box \[500.* has no area within the image"):
        run(weights, tmp_path / "o", *images_in(tmp_path, "a.jpg"), box=[(500, 0, 5, 5)])


def test_a_video_whose_name_is_not_utf_8_is_one_error(tmp_path: Path, weights: Path) -> None:
    path = Path(os.fsdecode(bytes(tmp_path / "clip") + b"\xff.avi"))
    path.write_bytes(b"film")

    with pytest.raises(HwlError, match="the name is not UTF-8; rename it"):
        run(weights, tmp_path / "output", tmp_path, whole_image=True)

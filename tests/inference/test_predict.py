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
from hwl.models import Description, PoseNet, save_weights
from hwl.skeletons import LSP

from .predicting import film, images_in, results, run, tree

BOXES = [(5.0, 5.0, 40.0, 60.0), (20.0, 10.0, 30.0, 70.0)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, ordinary: Callable[..., PoseNet]) -> Path:
    model = ordinary("ours", 14)
    torch.nn.init.ones_(model.head.final_layer.bias)  # scores that are drawn
    model.describe(Description(skeleton=LSP, input_size=(64, 64)))
    path = tmp_path_factory.mktemp("weights") / "ours.safetensors"
    save_weights(model, path)
    return path


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
    path = film(tmp_path / "clip.avi", frames=20)

    (drawing,) = run(weights, tmp_path / "output", path, whole_image=True)

    video = cv2.VideoCapture(str(drawing))
    assert drawing.name == "clip.mp4"
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 20
    assert video.get(cv2.CAP_PROP_FPS) == 12.5
    persons, images = results(tmp_path / "output")
    assert [image["frame"] for image in images] == list(range(20))
    assert [person["image_id"] for person in persons] == list(range(1, 21))


def test_of_unreadable_images_alone_the_first_is_named_and_nothing_is_left(
    tmp_path: Path, weights: Path
) -> None:
    paths = [tmp_path / "broken.jpg", tmp_path / "other.jpg"]
    for path in paths:
        path.write_text("no image")
    before = tree(tmp_path)

    with pytest.raises(HwlError, match=r"broken\.jpg: cannot be decoded"):
        run(weights, tmp_path / "output", *paths, whole_image=True)

    assert tree(tmp_path) == before and not (tmp_path / "output").exists()


def test_files_that_cannot_be_predicted_are_named_and_the_others_results_kept(
    tmp_path: Path, weights: Path
) -> None:
    first, last = images_in(tmp_path, "a.jpg", "z.jpg")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "clip.mp4").write_text("no video")
    (tmp_path / "cut.jpg").write_bytes(first.read_bytes()[:-200])
    output = tmp_path / "output"
    names = ["a.jpg", "clip.mp4", "cut.jpg", "notes.txt", "z.jpg"]

    with pytest.raises(HwlError) as caught:
        run(weights, output, *(tmp_path / name for name in names), whole_image=True)

    told = str(caught.value)
    assert "\n" not in told and told.startswith("3 of 5 files could not be predicted")
    assert f"{tmp_path}/clip.mp4: cannot be read as a video" in told
    assert told.endswith(f"the others' drawings and results are in {output}")
    persons, images = results(output)
    assert [image["file_name"] for image in images] == [str(first), str(last)]
    assert [image["id"] for image in images] == [one["image_id"] for one in persons] == [1, 2]
    drawn = ["a.png", "images.json", "keypoints_results.json", "z.png"]
    assert sorted(path.name for path in output.iterdir() if path.name[0] != ".") == drawn


def test_the_listing_has_every_file_that_was_skipped_with_the_reason(
    tmp_path: Path, weights: Path
) -> None:
    (image,) = images_in(tmp_path, "a.jpg")
    broken = [tmp_path / f"{number}.jpg" for number in range(5)]
    for path in broken:
        path.write_text("no image")

    with pytest.raises(HwlError, match=r"5 of 6 files .*/2\.jpg.*; \.\.\.\): images\.json lists"):
        run(weights, tmp_path / "output", *broken, image, whole_image=True)

    skipped = json.loads((tmp_path / "output/images.json").read_text())["skipped"]
    assert [entry["file_name"] for entry in skipped] == [str(path) for path in broken]
    assert all("cannot be decoded" in entry["reason"] for entry in skipped)


def test_a_video_that_fails_in_its_middle_leaves_nothing_of_it(
    tmp_path: Path, weights: Path
) -> None:
    (image,) = images_in(tmp_path, "a.jpg")
    path = film(tmp_path / "clip.avi", frames=20)
    asked = []

    def detector(_: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        asked.append(1)
        where = 500.0 if len(asked) == 18 else 5.0  # in the second chunk, outside of the frame
        return np.array([[where, 5.0, 20.0, 30.0]]), np.ones(1)

    with pytest.raises(HwlError, match=r"1 of 2 files .*clip\.avi: box \[500"):
        run(weights, tmp_path / "output", path, image, detector=detector)

    persons, images = results(tmp_path / "output")
    assert [entry["file_name"] for entry in images] == [str(image)]
    assert [person["image_id"] for person in persons] == [1]
    assert not (tmp_path / "output/clip.mp4").exists()


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

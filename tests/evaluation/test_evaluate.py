"""Evaluations from boxes to files, with a model whose answers are known."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from hwl.codec import HeatmapCodec
from hwl.data.annotations import Annotations, Boxes, load_annotations, load_detections, load_split
from hwl.data.crops import box_crop, keypoints_to_input
from hwl.errors import HwlError
from hwl.evaluation import evaluate as evaluation
from hwl.evaluation.coco_ap import COCO_NUMBERS
from hwl.evaluation.config import EvaluateConfig
from hwl.evaluation.evaluate import (
    Evaluation,
    evaluate,
    evaluate_weights,
    keypoint_table,
    write_evaluation,
)
from hwl.files import read_json
from hwl.inference.predictor import Predictor
from hwl.models import Description, PoseNet, create_model, save_weights
from hwl.runs.provenance import fingerprint
from hwl.skeletons import LSP, MPII, Skeleton

CODEC = HeatmapCodec((128, 96))
PERSONS = 5


def write_data(folder: Path, skeleton: Skeleton = LSP, persons: int = PERSONS) -> Path:
    """Split "val": three noisy images and persons of all keypoints, with head sizes."""
    rng = np.random.default_rng(0)
    (folder / "val").mkdir(parents=True)
    (folder / "annotations").mkdir()
    images, found = [], []
    for number in range(3):
        image = rng.integers(0, 256, (200, 160, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"val/{number}.png"), image)
        images.append(
            {"id": 40 + number, "file_name": f"{number}.png", "width": 160, "height": 200}
        )
    for number in range(persons):
        box = np.array([*rng.uniform(5, 60, 2), *rng.uniform(75, 95, 2)])
        keypoints = rng.random((len(skeleton), 2))
        keypoints[skeleton.index("left_shoulder")] = 0.8, 0.1  # PCK needs a torso
        keypoints[skeleton.index("right_hip")] = 0.3, 0.6
        keypoints = box[:2] + keypoints * box[2:]
        found.append(
            {
                "id": number + 1,
                "image_id": 40 + number % 3,
                "category_id": 1,
                "bbox": box.tolist(),
                "area": box[2] * box[3] * 0.6,
                "head_size": 20,
                "keypoints": np.column_stack([keypoints, np.full(len(keypoints), 2)])
                .ravel()
                .tolist(),
            }
        )
    path = folder / "annotations/person_keypoints_val.json"
    content = {"images": images, "categories": [skeleton.category()], "annotations": found}
    path.write_text(json.dumps(content))
    return folder


def write_detections(data: Path, copies: int = 1) -> Path:
    """Every person's own box so many times, the later the less sure."""
    content = json.loads((data / "annotations/person_keypoints_val.json").read_text())
    boxes = [
        {**{key: p[key] for key in ("image_id", "category_id", "bbox")}, "score": 0.9 - 0.1 * copy}
        for copy in range(copies)
        for p in content["annotations"]
    ]
    path = data / "found.json"
    path.write_text(json.dumps(boxes))
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data") / "lsp")


@pytest.fixture(scope="module")
def annotations(data: Path) -> Annotations:
    return load_split(data, "val")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of LSP's keypoints, with the record of its training beside it."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    model = create_model("ours", 14)
    model.describe(Description(skeleton=LSP, input_size=(64, 64)))
    save_weights(model, folder / "best.safetensors")
    (folder / "run.json").write_text(json.dumps({"config": {"epochs": 7}}))
    return folder / "best.safetensors"


class Oracle:
    """Answers with the true targets of a data set's persons, whose crops come by image.

    With the flip test it is asked twice for each batch, the second time for mirrored crops.
    """

    def __init__(self, annotations: Annotations, boxes: Boxes, flip: bool) -> None:
        # A detected box is one of a person's copies.
        persons = np.arange(len(boxes)) % len(annotations.ids)
        order = np.argsort(boxes.image_index, kind="stable")
        self.answers = [
            [
                self._target(annotations, persons[number], boxes.boxes[number], mirrored)
                for number in order
            ]
            for mirrored in ([False, True] if flip else [False])
        ]
        self.asked = 0
        self.given = [0, 0]

    @staticmethod
    def _target(
        annotations: Annotations, person: int, box: np.ndarray, mirrored: bool
    ) -> np.ndarray:
        crop = replace(box_crop(box, CODEC.input_size), mirrored=mirrored)
        keypoints = annotations.keypoints[person]
        keypoints = keypoints_to_input(keypoints, crop, CODEC.input_size, annotations.skeleton)
        return CODEC.encode(keypoints[:, :2], keypoints[:, 2] > 0)[0]

    def __call__(self, crops: Tensor) -> Tensor:
        turn = self.asked % len(self.answers)
        self.asked += 1
        start = self.given[turn]
        self.given[turn] += len(crops)
        return torch.from_numpy(np.stack(self.answers[turn][start : start + len(crops)]))


def perfect(
    annotations: Annotations,
    boxes: Boxes,
    metric: str,
    flip: bool = True,
    batch_size: int = 64,
    **how: int,
) -> Evaluation:
    model = PoseNet(torch.nn.Identity(), torch.nn.Identity(), {"name": "oracle"})
    model.describe(Description(skeleton=annotations.skeleton))
    predictor = Predictor(
        model=model,
        prepared=Oracle(annotations, boxes, flip),
        codec=CODEC,
        flip=flip,
        batch_size=batch_size,
    )
    return evaluate(predictor, annotations, boxes, metric, **how)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("metric", ["AP", "PCK", "PCKh"])
def test_a_perfect_model_scores_one(annotations: Annotations, metric: str, flip: bool) -> None:
    found = perfect(annotations, annotations.ground_truth_boxes(), metric, flip, batch_size=2)

    assert found.metrics[metric] == pytest.approx(1)
    assert len(found.poses) == PERSONS
    assert len(found.results) == (PERSONS if metric == "AP" else 0)


def test_pckh_of_mpiis_keypoints_is_taken_too(tmp_path: Path) -> None:
    annotations = load_split(write_data(tmp_path / "mpii", MPII), "val")

    assert perfect(annotations, annotations.ground_truth_boxes(), "PCKh").metrics["PCKh"] == 1


def test_the_interval_comes_with_the_bootstrap(annotations: Annotations) -> None:
    found = perfect(annotations, annotations.ground_truth_boxes(), "AP", bootstrap=3)

    assert found.metrics["AP_low"] == pytest.approx(1) == found.metrics["AP_high"]


def test_duplicates_are_suppressed_and_scores_are_those_of_box_and_keypoints(
    data: Path, annotations: Annotations
) -> None:
    boxes = load_detections(write_detections(data, copies=3), annotations)

    found = perfect(annotations, boxes, "AP")

    assert len(found.poses) == 3 * PERSONS and len(found.results) == PERSONS
    assert found.metrics["AP"] == pytest.approx(1)
    # The best copy of each, with box score 0.9 and peaks of 1 (a little less for the flip test).
    assert all(0.8 < result["score"] <= 0.9 for result in found.results)


def test_results_are_made_once_for_all_survivors(
    annotations: Annotations, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Once for each of COCO's 104,125 detections would take days.
    calls: list[int] = []

    def counted(*arguments: object) -> list[dict[str, object]]:
        calls.append(1)
        return coco_results(*arguments)

    coco_results = evaluation.coco_results
    monkeypatch.setattr(evaluation, "coco_results", counted)

    perfect(annotations, annotations.ground_truth_boxes(), "AP")

    assert len(calls) == 1


def test_an_unknown_metric_is_refused(annotations: Annotations) -> None:
    with pytest.raises(HwlError, match="'OKS' is not one of AP, PCK, PCKh"):
        perfect(annotations, annotations.ground_truth_boxes(), "OKS")


@pytest.mark.parametrize("metric", ["PCK", "PCKh"])
def test_pck_refuses_detected_boxes(data: Path, annotations: Annotations, metric: str) -> None:
    boxes = load_detections(write_detections(data), annotations)

    with pytest.raises(HwlError, match=f"{metric} is defined on ground-truth boxes"):
        perfect(annotations, boxes, metric)


def test_the_protocol_is_told_in_a_sentence(data: Path, annotations: Annotations) -> None:
    truth = annotations.ground_truth_boxes()
    detected = load_detections(write_detections(data, copies=2), annotations)

    sentences = [
        perfect(annotations, truth, "AP", flip=False).sentence(),
        perfect(annotations, detected, "AP").sentence(),
    ]

    assert sentences[0].startswith("ground-truth boxes, no flip, ")
    assert sentences[0].endswith("decode, input 128x96, 3 images, 5 boxes, runtime eager")
    assert sentences[1].startswith("detected boxes, flip test, ")
    assert sentences[1].endswith("3 images, 10 boxes, runtime eager")


def test_the_keypoint_table_has_each_keypoints_errors(annotations: Annotations) -> None:
    keypoints = annotations.keypoints[:, :, :2].copy()
    keypoints[:, 2, 0] += np.sqrt(annotations.areas) * [0.1, 0.1, 0.2, 0.4, 0.4]

    table = keypoint_table(annotations, keypoints)

    assert table["keypoint"].tolist() == list(LSP.keypoints)
    assert table["annotated"].tolist() == [PERSONS] * 14
    assert table["median error"].tolist() == pytest.approx([0, 0, 0.2, *[0] * 11])
    assert table["95 % error"][2] == pytest.approx(0.4)
    assert table["mean similarity"][0] == 1 and 0.1 < table["mean similarity"][2] < 0.9


def configured(data: Path, weights: Path, **changes: object) -> EvaluateConfig:
    return EvaluateConfig(
        output="run",
        weights=str(weights),
        data=str(data),
        split="val",
        **{"workers": 0, "bootstrap": 2, **changes},
    )


def test_every_protocol_is_evaluated_the_papers_last(data: Path, weights: Path) -> None:
    config = configured(data, weights, detections=str(write_detections(data, copies=2)))

    annotations, found = evaluate_weights(config)

    assert len(annotations.ids) == PERSONS
    assert [(e.protocol["boxes"], e.protocol["flip"]) for e in found] == [
        ("ground-truth", False),
        ("ground-truth", True),
        ("detected", True),
    ]
    assert [len(e.poses) for e in found] == [5, 5, 10]


def test_without_flip_test_there_is_one_protocol(data: Path, weights: Path) -> None:
    _, found = evaluate_weights(configured(data, weights, flip=False))

    assert [e.protocol["flip"] for e in found] == [False]


def test_a_limit_takes_the_first_persons(data: Path, weights: Path) -> None:
    annotations, found = evaluate_weights(configured(data, weights, limit=2))

    assert annotations.ids.tolist() == [1, 2]
    assert [e.protocol["persons"] for e in found] == [2, 2]


def test_a_limit_and_detected_boxes_exclude_each_other(data: Path, weights: Path) -> None:
    config = configured(data, weights, limit=2, detections=str(write_detections(data)))

    with pytest.raises(HwlError, match="limit is 2: it leaves out persons"):
        evaluate_weights(config)


def test_a_model_of_other_keypoints_is_refused_by_both_numbers(
    tmp_path: Path, weights: Path
) -> None:
    data = write_data(tmp_path / "mpii", MPII)

    with pytest.raises(HwlError, match=r"predicts 14 keypoints, .*val\.json has .*MPII-16 of 16"):
        evaluate_weights(configured(data, weights))


def test_a_data_set_without_persons_needs_detections(tmp_path: Path, weights: Path) -> None:
    data = write_data(tmp_path / "lsp", persons=0)

    with pytest.raises(HwlError, match=r"val\.json has no persons: give detected boxes"):
        evaluate_weights(configured(data, weights))


def test_the_run_folder_has_numbers_protocols_results_and_origin(
    tmp_path: Path, data: Path, weights: Path
) -> None:
    config = configured(data, weights, detections=str(write_detections(data, copies=2)))
    annotations, found = evaluate_weights(config)

    write_evaluation(tmp_path, config, annotations, found)

    names = [
        "keypoints_val_results.json",
        "metrics.json",
        "persons.npz",
        "protocols.csv",
        "run.json",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    numbers = read_json(tmp_path / "metrics.json")
    assert {*COCO_NUMBERS, "AP_low", "AP_high", "boxes", "flip"} < set(numbers)
    assert numbers["boxes"] == "detected" and numbers["AP"] == found[-1].metrics["AP"]
    with (tmp_path / "protocols.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["boxes"] for row in rows] == ["ground-truth", "ground-truth", "detected"]
    assert json.loads((tmp_path / names[0]).read_text()) == found[-1].results
    run = read_json(tmp_path / "run.json")
    assert set(run["inputs"]) == {"weights", "annotations", "images", "detections"}
    assert run["config"]["input_width"] == 0 and run["trained"] == {"epochs": 7}


def test_the_origin_of_published_weights_is_the_fetched_file(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = tmp_path / "fetched.pth"
    torch.save(create_model("litehrnet18", 14).state_dict(), fetched)
    monkeypatch.setattr("hwl.models.published.fetch", lambda *_, **hashes: fetched)
    config = configured(
        data,
        Path("openmmlab"),
        model="litehrnet18",
        flip=False,
        input_height=64,
        input_width=64,
    )

    write_evaluation(tmp_path, config, *evaluate_weights(config))

    run = read_json(tmp_path / "run.json")
    assert run["inputs"]["weights"] == f"fetched.pth sha256:{fingerprint(fetched)}"
    assert (run["config"]["weights"], run["config"]["model"]) == ("openmmlab", "litehrnet18")


def test_pck_writes_no_results_file(tmp_path: Path, data: Path, weights: Path) -> None:
    config = configured(data, weights, metric="PCK")
    annotations, found = evaluate_weights(config)

    write_evaluation(tmp_path, config, annotations, found)

    assert not list(tmp_path.glob("*results*")) and "PCK" in read_json(tmp_path / "metrics.json")


def test_a_test_dev_list_gets_results_and_no_numbers(
    tmp_path: Path, data: Path, weights: Path
) -> None:
    # Images without persons, as the test server's list; its boxes are the validation set's.
    hidden = write_data(tmp_path / "hidden", persons=0)
    config = configured(hidden, weights, detections=str(write_detections(data)))
    annotations, found = evaluate_weights(config)
    output = tmp_path / "output"
    output.mkdir()

    write_evaluation(output, config, annotations, found)

    results = json.loads((output / "keypoints_val_results.json").read_text())
    assert {result["image_id"] for result in results} == {40, 41, 42}
    assert not {*COCO_NUMBERS} & set(read_json(output / "metrics.json"))
    assert load_annotations(annotations.path, tmp_path).ids.size == 0


def saved(folder: Path, **description: object) -> Path:
    model = create_model("litehrnet18", 14)
    model.describe(Description(**{"skeleton": LSP, "input_size": (64, 64), **description}))
    save_weights(model, folder / "w.safetensors")
    return folder / "w.safetensors"


def test_the_weights_own_input_size_is_used_where_none_is_named(data: Path, tmp_path: Path) -> None:
    weights = saved(tmp_path, input_size=(96, 64))

    _, (found,) = evaluate_weights(configured(data, weights, flip=False))
    _, (named,) = evaluate_weights(
        configured(data, weights, flip=False, input_height=96, input_width=64)
    )

    assert found.protocol["input"] == "96x64"
    np.testing.assert_array_equal(found.poses.keypoints, named.poses.keypoints)


def test_another_input_size_is_refused_with_both_unless_asked_for_by_name(
    data: Path, tmp_path: Path
) -> None:
    other = configured(data, saved(tmp_path), flip=False, input_height=96)

    with pytest.raises(HwlError, match="is of input size 64x64, asked for is 96x64"):
        evaluate_weights(other)

    _, (found,) = evaluate_weights(replace(other, allow_other_size=True))
    assert found.protocol["input"] == "96x64"


def test_weights_with_two_keypoints_exchanged_are_refused_by_the_first(
    data: Path, tmp_path: Path
) -> None:
    names = list(LSP.keypoints)
    names[0], names[5] = names[5], names[0]
    weights = saved(tmp_path, skeleton=replace(LSP, keypoints=tuple(names)))

    with pytest.raises(HwlError) as refusal:
        evaluate_weights(configured(data, weights))

    told = str(refusal.value)
    assert f"keypoint 1 of {weights} is 'left_ankle', that of {data}" in told
    assert "is 'right_ankle'" in told


def test_weights_that_do_not_describe_themselves_are_taken_for_a_known_skeleton_and_it_is_said(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    save_weights(create_model("litehrnet18", 14), tmp_path / "old.safetensors")

    _, (found,) = evaluate_weights(configured(data, tmp_path / "old.safetensors", flip=False))

    assert found.protocol["input"] == "256x192"
    assert "old.safetensors does not describe itself: its 14 keypoints" in capsys.readouterr().out

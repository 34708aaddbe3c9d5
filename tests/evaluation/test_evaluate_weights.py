"""A weights file is evaluated: which protocols, what is refused, what is left."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hwl.data.annotations import load_annotations
from hwl.errors import HwlError
from hwl.evaluation.coco_ap import COCO_NUMBERS
from hwl.evaluation.config import EvaluateConfig
from hwl.evaluation.evaluate import (
    evaluate_weights,
    write_evaluation,
)
from hwl.files import read_json
from hwl.models import Description, create_model, save_weights
from hwl.paths import from_project
from hwl.runs.provenance import fingerprint
from hwl.skeletons import LSP, MPII

from .drawn_data import PERSONS, write_data, write_detections


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


def test_a_negative_bootstrap_is_refused(data: Path) -> None:
    with pytest.raises(HwlError, match="'bootstrap' is -1: it must be a whole number from 0"):
        configured(data, Path("w.safetensors"), bootstrap=-1)


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
        "keypoints.csv",
        "keypoints_val_results.json",
        "metrics.json",
        "persons.npz",
        "protocols.csv",
        "reliability.csv",
        "run.json",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    numbers = read_json(tmp_path / "metrics.json")
    assert {*COCO_NUMBERS, "AP_low", "AP_high", "boxes", "flip"} < set(numbers)
    assert numbers["boxes"] == "detected" and numbers["AP"] == found[-1].metrics["AP"]
    with (tmp_path / "protocols.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["boxes"] for row in rows] == ["ground-truth", "ground-truth", "detected"]
    assert json.loads((tmp_path / names[1]).read_text()) == found[-1].results
    run = read_json(tmp_path / "run.json")
    assert set(run["inputs"]) == {"weights", "annotations", "images", "detections"}
    assert run["config"]["input_width"] == 0 and run["trained"] == {"epochs": 7}


def test_the_origin_is_what_was_read_though_a_training_replaces_the_weights_meanwhile(
    tmp_path: Path, data: Path
) -> None:
    weights = saved(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"config": {"epochs": 7}}))
    before = fingerprint(weights)
    config = configured(data, weights, flip=False)
    annotations, found = evaluate_weights(config)
    saved(tmp_path, trained_on="others")
    (tmp_path / "run.json").write_text(json.dumps({"config": {"epochs": 8}}))
    (tmp_path / "output").mkdir()

    write_evaluation(tmp_path / "output", config, annotations, found)

    run = read_json(tmp_path / "output/run.json")
    assert before != fingerprint(weights) and run["inputs"]["weights"].endswith(before)
    assert run["trained"] == {"epochs": 7}


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
    assert run["inputs"]["weights"] == f"{from_project(fetched)} sha256:{fingerprint(fetched)}"
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
    model = create_model("ours", 14)
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
    save_weights(create_model("ours", 14), tmp_path / "old.safetensors")

    _, (found,) = evaluate_weights(configured(data, tmp_path / "old.safetensors", flip=False))

    assert found.protocol["input"] == "256x192"
    assert "old.safetensors does not describe itself: its 14 keypoints" in capsys.readouterr().out

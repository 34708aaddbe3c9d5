"""Each test person's own numbers: kept by the evaluation, against COCO's formula in a loop."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from hwl.data.annotations import load_split
from hwl.errors import HwlError
from hwl.evaluation.config import EvaluateConfig
from hwl.evaluation.evaluate import evaluate_weights, write_evaluation
from hwl.evaluation.persons import Persons, read_persons, write_persons
from hwl.files import read_json


@pytest.fixture(scope="module")
def evaluated(
    puppets: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, np.ndarray]:
    """The run folder of an evaluation and the keypoints (Q, 17, 2) predicted with the flip test."""
    folder = tmp_path_factory.mktemp("evaluated")
    config = EvaluateConfig(
        output=str(folder),
        weights=str(trained / "best.safetensors"),
        data=str(puppets),
        detections=str(puppets / "person_detection_results/val2017_simulated_detections.json"),
        input_height=64,
        input_width=32,
        workers=0,
        bootstrap=0,
    )
    annotations, found = evaluate_weights(config)
    write_evaluation(folder, config, annotations, found)
    return folder, found[1].poses.keypoints


def test_oks_is_cocos_of_each_annotated_person(
    evaluated: tuple[Path, np.ndarray], puppets: Path
) -> None:
    folder, predicted = evaluated
    truth = load_split(puppets, "val2017")

    persons = read_persons(folder / "persons.npz")

    assert persons.annotation_ids.tolist() == truth.ids[truth.annotated()].tolist()
    assert set(persons.image_ids) <= set(truth.image_ids)
    for row, person in enumerate(truth.annotated()):
        similar = []
        for k in np.flatnonzero(truth.keypoints[person, :, 2] > 0):
            distance = math.dist(predicted[row, k], truth.keypoints[person, k, :2])
            error = distance / math.sqrt(truth.areas[person])
            similar.append(math.exp(-(error**2) / 2 / (2 * truth.skeleton.sigmas[k]) ** 2))
        assert persons.oks[row] == pytest.approx(np.mean(similar), rel=1e-5)
        assert truth.image_ids[truth.image_index[person]] == persons.image_ids[row]


def test_mean_oks_stands_in_the_row_of_ground_truth_boxes(
    evaluated: tuple[Path, np.ndarray],
) -> None:
    folder, _ = evaluated
    lines = (folder / "protocols.csv").read_text().splitlines()
    column = lines[0].split(",").index("OKS")

    values = [line.split(",")[column] for line in lines[1:]]

    mean = read_persons(folder / "persons.npz").oks.mean()
    assert float(values[1]) == pytest.approx(mean, rel=1e-6) and values[2] == ""
    assert "OKS" not in read_json(folder / "metrics.json")  # the detected boxes' numbers


def test_the_same_persons_give_the_same_bytes(tmp_path: Path) -> None:
    persons = Persons(*(np.zeros(3, np.float32) for _ in range(3)))

    for name in ("a.npz", "b.npz"):
        write_persons(tmp_path / name, persons)

    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken", None])
def test_a_missing_or_broken_file_is_named(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "persons.npz").write_bytes(content)

    with pytest.raises(HwlError, match=r"persons\.npz is missing or broken .*evaluate the run"):
        read_persons(tmp_path / "persons.npz")

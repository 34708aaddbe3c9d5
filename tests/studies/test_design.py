"""The design of an experiment: what each run is told, the budget, and mistakes by name."""

from __future__ import annotations

import copy
import dataclasses

import pytest

from hwl.config import build
from hwl.errors import HwlError
from hwl.evaluation.config import EvaluateConfig
from hwl.losses import HeatmapWeightingLoss
from hwl.models import create_model
from hwl.paths import PROJECT
from hwl.puppets.config import PuppetConfig
from hwl.studies.design import Design, load_design, read_design
from hwl.training.config import TrainConfig

CONTENT = {
    "profile": "small",
    "core_hours": 10,
    "puppets": {"data/puppets": {"train_images": 8, "seed": 0}},
    "settings": {
        "puppets": {
            "train": {"data": "data/puppets", "input_height": 64, "input_width": 32, "lr": 1e-3},
            "test": {"data": "data/fresh", "split": "val2017"},
        }
    },
    "stages": [
        {
            "name": "main",
            "setting": "puppets",
            "core_hours": 0.5,
            "pilot": 2,
            "seeds": 6,
            "arms": {"zero": {"weight_function": "zero"}, "identity": {}},
            "compare": [["identity", "zero"]],
        },
        {
            "name": "costly",
            "setting": "puppets",
            "core_hours": 3,
            "seeds": 4,
            "arms": {"dense": {"model_options": {"head": "dense"}}},
            "compare": [["identity", "dense"]],
        },
        {
            "name": "cheap",
            "setting": "puppets",
            "core_hours": 1,
            "seeds": 4,
            "arms": {"fast": {"lr": 1e-2}},
            "compare": [["fast", "identity"]],
        },
    ],
    "trace": ["zero"],
}


def changed(**stage: object) -> dict:
    content = copy.deepcopy(CONTENT)
    content["stages"][2] |= stage
    return content


@pytest.fixture
def design() -> Design:
    return read_design(CONTENT, "small.yaml")


@pytest.fixture(scope="module")
def evidence() -> Design:
    return load_design(PROJECT / "profiles/evidence.yaml")


def test_a_run_is_told_the_setting_the_arms_changes_and_its_seed(design: Design) -> None:
    told = design.recipe("fast", 3)

    assert told == {**CONTENT["settings"]["puppets"]["train"], "lr": 1e-2, "seed": 3}


def test_the_first_run_of_a_traced_arm_keeps_its_weights(design: Design) -> None:
    kept = [arm for arm in design.arms() if design.recipe(arm, 0).get("keep_weights")]

    assert kept == ["zero"] and "keep_weights" not in design.recipe("zero", 1)


def test_a_test_has_the_input_of_its_training(design: Design) -> None:
    assert design.test("fast") == {
        **{"input_height": 64, "input_width": 32},
        **{"data": "data/fresh", "split": "val2017"},
    }


def test_stages_that_would_pass_the_budget_are_left_out_and_cheaper_ones_follow(
    design: Design,
) -> None:
    plan = design.plan()

    assert [row["core-hours"] for row in plan] == [6, 12, 4]
    assert [row["sum"] for row in plan] == [6, 6, 10]
    assert [row["made"] for row in plan] == [True, False, True]
    assert [stage.name for stage in design.affordable()] == ["main", "cheap"]


def test_fewer_seeds_by_the_pilot_leave_more_to_the_other_stages() -> None:
    content = copy.deepcopy(CONTENT) | {"core_hours": 14}
    small = read_design(content, "small.yaml")

    assert [row["made"] for row in small.plan(decided=2)] == [True, True, False]
    assert [row["seeds"] for row in small.plan(decided=2)] == [2, 4, 4]
    assert [stage.name for stage in small.affordable()] == ["main", "cheap"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (changed(setting="coco"), "stage 'cheap' names no setting: 'coco'"),
        (changed(arms={"zero": {}}), "arm 'zero' is in two stages"),
        (changed(compare=[["fats", "zero"]]), "stage 'cheap' compares 'fats', which is no arm"),
        (changed(seed=3), "unknown field `seed`"),
        (CONTENT | {"trace": ["sero"]}, "'trace' names 'sero', which is no arm"),
    ],
)
def test_a_mistake_is_named(content: dict, message: str) -> None:
    with pytest.raises(HwlError, match=rf"small\.yaml: .*{message}"):
        read_design(content, "small.yaml")


def test_an_unknown_arm_is_refused_with_the_others_names(design: Design) -> None:
    with pytest.raises(HwlError, match="arm 'sparse' is not one of zero, identity, dense, fast"):
        design.recipe("sparse", 0)


def test_every_run_of_the_evidence_profile_can_be_configured(evidence: Design) -> None:
    for arm in evidence.arms():
        config = build(TrainConfig, {"output": "run", **evidence.recipe(arm, 0)})
        HeatmapWeightingLoss(config.weight_function)
        create_model(config.model, 17, **config.model_options)
        build(EvaluateConfig, {"output": "run", "weights": "w", **evidence.test(arm)})
    for folder, told in evidence.puppets.items():
        build(PuppetConfig, {"folder": folder, **told})


def test_the_evidence_profile_spends_its_budget_on_the_main_arms_first(evidence: Design) -> None:
    assert evidence.stages[0] is evidence.piloted()
    assert set(evidence.piloted().arms) == {"zero", "identity", "placebo"}
    assert evidence.plan()[-1]["sum"] <= evidence.core_hours == 40


def test_arms_of_the_evidence_profile_share_all_but_what_they_are_about(evidence: Design) -> None:
    fields = {field.name for field in dataclasses.fields(TrainConfig)}
    main = evidence.recipe("zero", 1)

    differing = {
        arm: {n for n in fields if evidence.recipe(arm, 1).get(n) != main.get(n)}
        for arm in evidence.arms()
    }

    assert differing["identity"] == differing["placebo"] == {"weight_function"}
    assert differing["zero-half-rate"] == {"lr"} and differing["zero-sigma-1.5"] == {"sigma"}
    assert differing["attention-none"] == {"model_options", "weight_function"}


def test_the_test_images_are_of_a_seed_of_their_own_and_of_no_training(evidence: Design) -> None:
    trained, fresh = evidence.puppets["data/puppets"], evidence.puppets["data/puppets-test"]

    assert fresh["seed"] != trained["seed"] and fresh["val_images"] == 2000
    assert evidence.settings["puppets"].test["data"] == "data/puppets-test"
    assert evidence.settings["puppets"].train["data"] == "data/puppets"

"""Profiles: those that are here are whole, and an incomplete one is told in one line."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hwl.errors import HwlError
from hwl.files import write_json
from hwl.paths import PROJECT
from hwl.studies.profile import Profile, check_profile, made_otherwise

# Those of the graph; a profile of another kind has no recipe.
PROFILES = [
    path
    for path in sorted((PROJECT / "profiles").glob("*.yaml"))
    if "recipe" in yaml.safe_load(path.read_text())
]


def embedded() -> dict:
    return yaml.safe_load((PROJECT / "profiles/embedded.yaml").read_text())


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_the_profiles_are_whole(path: Path) -> None:
    check_profile(yaml.safe_load(path.read_text()))


@pytest.mark.parametrize("key", ["data", "recipe", "protocol", "variants", "seeds", "speed"])
def test_a_missing_key_is_named(key: str) -> None:
    values = embedded()
    del values[key]

    with pytest.raises(HwlError, match=f"^profile 'embedded': parameter '{key}' is missing"):
        check_profile(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipes": {}}, "unknown parameter 'recipes'; did you mean 'recipe'"),
        ({"recipe": None}, "'recipe' is None: it must be a mapping"),
        ({"cores_per_run": 0}, "'cores_per_run' is 0: it must be a whole number from 1"),
        ({"seeds": {"our": [0]}}, "'seeds' has 'our', which is not one of its variants ours"),
        ({"compare": ["msee"]}, "'compare' has 'msee', which is not one of its variants"),
        ({"recipe": {"epoch": 5}}, "'recipe': unknown parameter 'epoch'; did you mean 'epochs'"),
        ({"recipe": {"lr": "1e-3"}}, "'recipe': parameter 'lr' is '1e-3': it must be a number"),
        ({"recipe": {"seed": 3}}, "'recipe' has 'seed', which the graph sets: leave it out"),
        (
            {"variants": {"ours": {}, "mse": {"batch_size": 0}}},
            "'variants.mse': parameter 'batch_size' is 0: it must be a whole number from 1",
        ),
        ({"protocol": {"flips": True}}, "'protocol': unknown parameter 'flips'"),
        ({"protocol": {"weights": "w"}}, "'protocol' has 'weights', which the graph sets"),
        ({"puppets": {"val_images": -1}}, "'puppets': parameter 'val_images' is -1"),
        (
            {"speed": {"speed": {"repeats": 0}}},
            "parameter 'repeats' is 0: it must be a whole number",
        ),
        ({"speed": {"speed": {"rounds": 0}}}, "'speed.speed': parameter 'rounds' is 0"),
    ],
)
def test_a_wrong_key_is_named(change: dict, message: str) -> None:
    with pytest.raises(HwlError, match=re.escape(message)) as caught:
        check_profile({**embedded(), **change})

    assert "\n" not in str(caught.value) and str(caught.value).startswith("profile 'embedded': ")


def test_reading_a_profile_loads_nothing_heavy() -> None:
    """Each job of the graph reads it again."""
    code = "import sys, hwl.studies.profile; print(sorted({'torch', 'pandas'} & set(sys.modules)))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Profile:
    """The embedded profile in a project without runs."""
    monkeypatch.setattr("hwl.studies.profile.PROJECT", tmp_path)
    return check_profile(embedded())


def record(project: Path, run: str, told: dict[str, object]) -> None:
    """A finished run that was given parameters."""
    write_json(project / "runs/embedded" / run / "run.json", {"config": told})


def test_runs_with_the_profiles_parameters_are_not_made_again(
    profile: Profile, tmp_path: Path
) -> None:
    weights = "runs/embedded/train/ours-seed0/best.safetensors"
    record(tmp_path, "train/ours-seed0", {**profile.training("ours", 0), "threads": 8})
    record(tmp_path, "evaluate/ours-seed0", {**profile.evaluation("ours"), "weights": weights})

    assert made_otherwise(profile) == []


@pytest.mark.parametrize(
    ("run", "change"),
    [
        ("train/ours-seed0", {"epochs": 1}),
        ("evaluate/mse-seed0", {"weights": "results/embedded/train/ours-seed0/best.safetensors"}),
    ],
)
def test_a_run_made_by_hand_with_other_parameters_is_made_again(
    run: str, change: dict[str, object], profile: Profile, tmp_path: Path
) -> None:
    variant = run.split("/")[1].split("-")[0]
    told = profile.training(variant, 0) if "train" in run else profile.evaluation(variant)
    record(tmp_path, run, {**told, **change})

    assert made_otherwise(profile) == [f"runs/embedded/{run}/notebook.html"]


def test_of_drawn_puppets_the_label_tells_and_of_other_data_annotations_and_detections() -> None:
    drawn, photographs = (
        check_profile(yaml.safe_load((PROJECT / f"profiles/{name}.yaml").read_text()))
        for name in ("embedded", "subset")
    )

    assert drawn.data_files(drawn.training("ours", 0)) == ["data/puppets/puppets.json"]
    annotations = "data/coco-subset/annotations/person_keypoints_{}.json"
    both = [annotations.format("train2017"), annotations.format("val2017")]
    assert photographs.data_files(photographs.training("ours", 0)) == both
    assert photographs.data_files(photographs.evaluation("ours")) == [
        both[1],
        photographs.detections,
    ]
    assert photographs.data_files(photographs.evaluation("overfit64")) == both[:1]

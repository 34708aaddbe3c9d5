"""Profiles: those that are here are whole, and an incomplete one is told in one line."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hwl.errors import HwlError
from hwl.paths import PROJECT
from hwl.studies.profile import check_profile

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

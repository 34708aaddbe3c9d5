"""Profiles: those that are here are whole, and an incomplete one is told in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from hwl.errors import HwlError
from hwl.paths import PROJECT
from hwl.runs.profile import check_profile

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
    ],
)
def test_a_wrong_key_is_named(change: dict, message: str) -> None:
    with pytest.raises(HwlError, match=message) as caught:
        check_profile({**embedded(), **change})

    assert "\n" not in str(caught.value)

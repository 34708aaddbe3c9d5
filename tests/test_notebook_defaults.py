"""The parameters that stand in a notebook are those of the embedded profile, or a job's own.

Another profile's take their place, and what it leaves out stands.
"""

from __future__ import annotations

import ast
from dataclasses import asdict
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml

from hwl.execute import NOTEBOOKS
from hwl.paths import PROJECT
from hwl.speed.config import SpeedConfig
from hwl.training.config import TrainConfig


@pytest.fixture(scope="module")
def profile() -> dict[str, Any]:
    text = (PROJECT / "profiles" / "embedded.yaml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


ALL = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))


def cells_of(name: str) -> list[nbformat.NotebookNode]:
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells


def defaults(name: str) -> dict[str, object]:
    (cell,) = (one for one in cells_of(name) if "parameters" in one.metadata.get("tags", []))
    statements = ast.parse(cell.source).body
    return {s.targets[0].id: ast.literal_eval(s.value) for s in statements}  # type: ignore[attr-defined]


def wanted(name: str, profile: dict[str, Any]) -> dict[str, object]:
    """What the graph gives a notebook for the paper's variant, seed 0."""
    recipe, data = profile["recipe"], {"data": profile["data"]}
    if name == "1_train":
        return {**data, **recipe, "seed": 0}
    if name == "2_evaluate":
        shared = {key: recipe[key] for key in ("threads", "workers")}
        return {**data, **shared, **profile["protocol"], "detections": profile["detections"]}
    if name == "3_loss_weights":
        return data
    if name == "4_ablations":
        return {"variants": profile["compare"], "baseline": profile["compare"][0]}
    if name == "5_speed":  # by hand it measures everything; the profile has minutes for a part
        return asdict(SpeedConfig(output="runs/mine/speed"))
    return {"runs": f"runs/{profile['profile']}"}


@pytest.mark.parametrize("name", ALL)
def test_a_notebook_run_by_hand_does_what_the_profile_does(
    name: str, profile: dict[str, Any]
) -> None:
    own, expected = defaults(name), wanted(name, profile)

    assert {key: own[key] for key in expected} == expected


PROFILES = sorted((PROJECT / "profiles").glob("*.yaml"))


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_1_train_can_be_begun_with_every_variant_of_a_profile(path: Path) -> None:
    profile = yaml.safe_load(path.read_text(encoding="utf-8"))
    recipe = {"data": profile.get("data", "x"), **profile.get("recipe", {})}

    for changes in profile.get("variants", {}).values():
        config = TrainConfig(**{**defaults("1_train"), **recipe, **changes})
        assert not (config.detections and config.val_limit)  # those boxes are of all persons


@pytest.mark.parametrize("name", ALL)
def test_no_cell_changes_a_parameter_which_the_first_ones_read_again(name: str) -> None:
    changed = {
        node.id
        for cell in cells_of(name)
        if cell.cell_type == "code" and "parameters" not in cell.metadata.get("tags", [])
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }

    assert not changed & defaults(name).keys()

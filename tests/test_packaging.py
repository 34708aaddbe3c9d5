"""The set-up: one set of bounds, and a README whose commands and image of the folders hold."""

from __future__ import annotations

import ast
import dataclasses
import itertools
import re
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from hwl.puppets.config import PuppetConfig
from hwl.runs.provenance import recorded_packages
from hwl.training.config import TrainConfig

tomllib = pytest.importorskip("tomllib", reason="reads TOML with Python 3.11's own module")

PROJECT = Path(__file__).parents[1]
# Needed for the graph from Python 3.11 on; environment.yml asks for that Python.
MARKER = re.compile(r"\s*;.*")
EXTRAS = ("runtimes", "slurm", "test", "dev")


def pyproject() -> dict:
    return tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]


def bounds(requirements: list[str]) -> dict[str, str]:
    split = (re.match(r"([A-Za-z0-9_.-]+)(.*)", MARKER.sub("", line)) for line in requirements)
    return {match[1]: match[2].strip() for match in split}


def installed() -> list[str]:
    """The requirements that `make` installs."""
    extras = pyproject()["optional-dependencies"]
    return [*pyproject()["dependencies"], *itertools.chain(*(extras[name] for name in EXTRAS))]


def environment_bounds() -> dict[str, str]:
    content = yaml.safe_load((PROJECT / "environment.yml").read_text())["dependencies"]
    plain = [line for line in content if isinstance(line, str)]
    (pip,) = [line["pip"] for line in content if isinstance(line, dict)]
    found = bounds([*plain, *(line for line in pip if not line.startswith("--"))])
    return {name: bound for name, bound in found.items() if name not in ("python", "pip")}


def test_environment_and_pyproject_have_equal_bounds() -> None:
    assert environment_bounds() == bounds(installed())


def test_a_runs_record_has_the_versions_of_all_that_the_runtimes_need() -> None:
    assert set(bounds(pyproject()["optional-dependencies"]["runtimes"])) <= set(recorded_packages())


@pytest.mark.parametrize(
    "requirement",
    [
        *pyproject()["dependencies"],
        *itertools.chain(*pyproject()["optional-dependencies"].values()),
    ],
)
def test_dependency_is_bounded_below_and_above(requirement: str) -> None:
    assert re.search(r">=[^,]+,<", requirement)


def test_readme_shows_the_folders_that_are_there() -> None:
    (tree,) = re.findall(r"## Layout\n\n```\n(.*?)```", (PROJECT / "README.md").read_text(), re.S)
    shown, folder = set(), Path()
    for line in tree.splitlines():
        name = line.split()[0]
        folder = folder if line.startswith(" ") else Path(name)
        shown.add(PROJECT / (folder / name if line.startswith(" ") else name))

    assert {path for path in shown if not path.exists()} <= {PROJECT / "runs"}
    modules = {path for path in (PROJECT / "hwl").iterdir() if path.name != "__pycache__"}
    unnamed = {path.name for path in modules - shown} - {
        "__init__.py",
        "__main__.py",
        "hwl.egg-info",
    }
    assert unnamed == set()


def test_readme_make_targets_exist() -> None:
    targets = re.findall(r"^([a-z]+):", (PROJECT / "Makefile").read_text(), re.M)

    used = set(re.findall(r"^make ([a-z]+)", (PROJECT / "README.md").read_text(), re.M))

    assert {"reproduce", "test"} <= used <= set(targets)


def test_ci_calls_the_readme_commands() -> None:
    script = (PROJECT / ".ci" / "run").read_text()

    for command in ("test", "reproduce", "lint"):
        assert re.search(rf"make (--no-print-directory )?{command}$", script, re.M)


def test_the_lock_has_one_version_within_the_bounds_of_every_dependency() -> None:
    locked = {
        canonicalize_name(one.name): one.specifier
        for one in map(Requirement, lock_lines())
        if one.marker is None or one.marker.evaluate()
    }

    for line in map(Requirement, installed()):
        (version,) = locked[canonicalize_name(line.name)]
        assert version.operator == "==" and line.specifier.contains(version.version), line


def test_the_lock_names_no_address_of_a_package_index() -> None:
    assert not re.search(r"https?:|--(extra-)?index|--find-links", "\n".join(lock_lines()))


def lock_lines() -> list[str]:
    lines = (PROJECT / "requirements.lock").read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


@pytest.mark.parametrize(
    "page",
    ["README.md", *(f"docs/{name}.md" for name in ("coco", "own-data", "runtimes"))],
)
def test_the_pages_hwl_commands_are_there(page: str) -> None:
    """Every `hwl` command line of a page names a command."""
    from hwl.cli import COMMANDS, GROUPS

    lines = re.findall(r"^hwl (.*)$", (PROJECT / page).read_text(), re.M)
    for line in lines:
        words = line.split()
        known = GROUPS[words[0]][0] if words[0] in GROUPS else COMMANDS
        name = words[1] if words[0] in GROUPS else words[0]
        assert name in known, line
    assert lines


def test_paper_profile_is_the_recipe_of_the_paper() -> None:
    """What 1_train is told by the profile, with its own defaults else, is TrainConfig's default."""
    profile = yaml.safe_load((PROJECT / "profiles" / "paper.yaml").read_text())
    told = notebook_defaults("1_train") | profile["recipe"]
    paper = {field.name: field for field in dataclasses.fields(TrainConfig)}

    # Where the run and the data are, and how the model is fed.
    own = {"output", "data", "detections", "workers", "crop_cache"}
    assert profile["recipe"]["detections"] == profile["detections"]
    differing = {
        name: (value, default_of(paper[name]))
        for name, value in told.items()
        if name not in own and value != default_of(paper[name])
    }

    assert differing == {}


@pytest.mark.parametrize("name", ["embedded", "models"])
def test_profiles_draw_the_puppets_that_the_command_and_the_notebook_draw(name: str) -> None:
    profile = yaml.safe_load((PROJECT / "profiles" / f"{name}.yaml").read_text())

    assert PuppetConfig(profile["data"], **profile["puppets"]) == PuppetConfig()


def notebook_defaults(name: str) -> dict[str, object]:
    cells = nbformat.read(PROJECT / "notebooks" / f"{name}.ipynb", as_version=4).cells
    (cell,) = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    return {
        line.targets[0].id: ast.literal_eval(line.value) for line in ast.parse(cell.source).body
    }


def default_of(field: dataclasses.Field) -> object:
    return (
        field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    )

"""A new model, runtime or notebook takes one file and one entry: all else is derived."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from matplotlib.text import Text
from torch import nn

from hwl import cli, execute
from hwl.errors import HwlError
from hwl.inference.fastest import fastest
from hwl.inference.runtimes import RUNTIMES, prepare
from hwl.models import MODELS, create_model, load_model
from hwl.reporting.speed_figures import accuracy_over_speed, speed_heatmap
from hwl.speed.comparison import compare_speed, complete
from hwl.speed.config import SpeedConfig
from hwl.speed.counting import counting_table
from hwl.speed.tables import best_batches, paper_figure_points
from hwl.training.config import TrainConfig
from hwl.training.fit import fit

NAME = "throwaway"
SIZE = (64, 32)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> None:
    """A further model, registered by its one entry."""

    def build(num_keypoints: int, width: int = 8) -> tuple[nn.Module, nn.Module]:
        backbone = nn.Sequential(nn.Conv2d(3, width, 4, 4), nn.BatchNorm2d(width), nn.ReLU())
        return backbone, nn.Conv2d(width, num_keypoints, 1)

    monkeypatch.setitem(MODELS, NAME, build)


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """A further runtime, registered by its one entry; of the others only eager is left."""
    for name in set(RUNTIMES) - {"eager"}:
        monkeypatch.delitem(RUNTIMES, name)
    monkeypatch.setitem(RUNTIMES, NAME, RUNTIMES["eager"])


def texts(figure: object) -> str:
    return " ".join(text.get_text() for text in figure.findobj(Text))


def test_a_model_is_trained_saved_and_loaded(
    model: None, small_training: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    fit(small_training(tmp_path / "run", model=NAME, model_options={"width": 4}, epochs=1))

    loaded = load_model(tmp_path / "run/best.safetensors")
    assert loaded.config["name"] == NAME and loaded.backbone[0].out_channels == 4


def test_a_model_is_named_where_another_is_unknown_and_its_options_are_checked(
    model: None,
) -> None:
    with pytest.raises(HwlError, match=f"'our' is not one of ours, .*{NAME}"):
        create_model("our")
    with pytest.raises(HwlError, match="no option 'widht'; did you mean 'width'"):
        create_model(NAME, widht=4)
    with pytest.raises(HwlError, match="'width' is 'wide': it must be a whole number"):
        create_model(NAME, width="wide")


def test_a_model_and_a_runtime_are_compared_by_default_and_drawn(
    model: None, runtime: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in set(MODELS) - {"ours", NAME}:
        monkeypatch.delitem(MODELS, name)
    how = {"threads": [1], "batches": [1], "rounds": 1}
    config = SpeedConfig(output="run", input_height=SIZE[0], input_width=SIZE[1], **how)

    latencies = compare_speed(config).latencies
    sizes = counting_table(complete(config).models, SIZE)
    accuracy = pd.DataFrame({"model": ["ours", NAME], "precision": "float32", "AP": [0.5, 0.4]})
    points = paper_figure_points(latencies, sizes, accuracy)

    assert set(latencies["model"]) == {"ours", NAME}
    assert set(latencies["runtime"]) == {"eager", NAME}
    assert NAME in set(sizes["model"]) and NAME in set(points["model"])
    assert NAME in texts(speed_heatmap(best_batches(latencies), "here"))
    assert NAME in texts(accuracy_over_speed(points, "here"))


def test_a_runtime_is_a_candidate_for_the_fastest_and_named_where_another_is_unknown(
    model: None, runtime: None
) -> None:
    _, _, said = fastest(create_model(NAME).eval(), SIZE, batch_size=1)

    assert f"{NAME} " in said and "eager " in said
    with pytest.raises(HwlError, match=f"'nothing' is not one of auto, eager, {NAME}"):
        prepare(create_model(NAME), "nothing", SIZE)


def test_a_notebook_is_run_by_its_name_and_listed_where_another_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = 'output = "runs/a"\nnumber = 3'
    parameters = nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]})
    nbformat.write(nbformat.v4.new_notebook(cells=[parameters]), tmp_path / f"{NAME}.ipynb")
    ran = []
    monkeypatch.setattr(execute, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(execute, "run", lambda *what: ran.append(what))

    monkeypatch.setattr(sys, "argv", ["hwl", "run", NAME, "-p", "number", "4"])
    cli.main()

    assert ran == [(tmp_path / f"{NAME}.ipynb", {"number": 4})]
    monkeypatch.setattr(sys, "argv", ["hwl", "run", "nothing", "-p", "number", "4"])
    with pytest.raises(SystemExit, match=f"there is no such notebook; there are {NAME}"):
        cli.main()

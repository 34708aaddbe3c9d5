"""The common style is put on where a figure is made, and nowhere else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from hwl.reporting.figures import counted, image_row, save, style


def test_importing_the_figures_changes_no_setting_of_matplotlib() -> None:
    code = (
        "import matplotlib as m; before = dict(m.rcParams); import hwl.reporting.figures,"
        "hwl.reporting.speed_figures, hwl.reporting.explorers, hwl.reporting.model_figures;"
        "assert dict(m.rcParams) == before"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


def test_making_a_figure_changes_no_setting_of_matplotlib() -> None:
    before = dict(plt.rcParams)

    image_row([np.zeros((4, 4, 3), np.uint8)], ["a"], columns=1)

    assert dict(plt.rcParams) == before


def test_a_backend_that_becomes_interactive_with_its_first_figure_stays_so() -> None:
    try:
        with style():
            plt.ion()

        assert plt.isinteractive()
    finally:
        plt.ioff()


def test_a_figure_gives_the_same_files_each_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(image_row([np.zeros((4, 4, 3), np.uint8)], ["x"], columns=1), tmp_path, name)

    for kind in ("png", "svg"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


@pytest.mark.parametrize(
    ("number", "expected"), [(1, "1 image"), (0, "0 images"), (1200, "1,200 images")]
)
def test_one_thing_has_no_plural(number: int, expected: str) -> None:
    assert counted(number, "image") == expected


def test_a_plural_of_its_own_is_used() -> None:
    assert counted(2, "box", "boxes") == "2 boxes" and counted(1, "box", "boxes") == "1 box"

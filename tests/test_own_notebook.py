"""A user's own notebook: what its parameters cell may hold, and what is said of a broken one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from hwl import execute as notebooks
from hwl.errors import HwlError


def own(folder: Path, parameters: str) -> Path:
    """A user's notebook: a text and a parameters cell of that source."""
    text = nbformat.v4.new_markdown_cell("# Mine")
    cell = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    nbformat.write(nbformat.v4.new_notebook(cells=[text, cell]), folder / "own.ipynb")
    return folder / "own.ipynb"


def test_a_parameter_may_have_a_type(tmp_path: Path) -> None:
    path = own(tmp_path, 'output: str = "runs/mine"\nlr: float = 1e-3')

    assert notebooks.parse(path, "lr", "1") == 1.0


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("number = 3", "has no 'output', .* add a line like output = \"runs/mine\""),
        ("", "has no 'output'"),
        ('output = "a"\nimport os', "line 2, `import os`, is no `name = literal`: .* cell below"),
        ('output = "a"\nlr = 10 - 3', "line 2, `lr = 10 - 3`, is no `name = literal`"),
        ('output = "a"\nlr: float', "line 2, `lr: float`, is no"),
        ('output = "a"\na = b = 3', "line 2, `a = b = 3`, is no"),
        ('output = "a"\nconfig.lr = 3', "line 2, `config.lr = 3`, is no"),
        ('output = "a"\n%matplotlib inline', "line 2 is no Python .*: write `name = literal`"),
    ],
)
@pytest.mark.parametrize("use", [notebooks.run, lambda path, _: notebooks.parse(path, "lr", "1")])
def test_a_parameters_cell_of_anything_but_literals_is_told_with_its_line_and_the_remedy(
    use: Callable, parameters: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(HwlError, match=rf"own\.ipynb: cell 2, .*{message}"):
        use(own(tmp_path, parameters), {})


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff", b'{"nbformat": 9}'])
def test_a_broken_notebook_is_told_in_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "own.ipynb").write_bytes(content)

    with pytest.raises(HwlError, match=r"own\.ipynb is no notebook \(.*\): .*save it") as caught:
        notebooks.run(tmp_path / "own.ipynb", {})

    assert "\n" not in str(caught.value)

"""Formulas in exported notebooks."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbconvert import HTMLExporter

from hwl.paths import PROJECT
from hwl.reporting.formulas import Formulas


def exported(*cells: nbformat.NotebookNode) -> str:
    """The body of a page."""
    exporter = HTMLExporter(template_name="basic", preprocessors=[Formulas])
    return exporter.from_notebook_node(nbformat.v4.new_notebook(cells=list(cells)))[0]


def test_formulas_in_a_line_and_displayed_are_mathml() -> None:
    text = "A line with $W \\ge 1$ and\n\n$$L = \\frac1n \\sum_p x_p$$\n\nmore."

    page = exported(nbformat.v4.new_markdown_cell(text))

    assert 'display="inline"' in page and "<mrow><mi>W</mi><mo>≥</mo><mn>1</mn></mrow>" in page
    assert 'display="block"' in page and "<mfrac><mn>1</mn><mi>n</mi></mfrac>" in page
    assert "$" not in page


def test_dollars_in_code_stay() -> None:
    cells = [
        nbformat.v4.new_markdown_cell("`$HOME/$x` and\n\n```\necho $A $B\n```"),
        nbformat.v4.new_code_cell("'$a$'"),
    ]

    page = exported(*cells)

    assert "<math" not in page
    assert "$HOME/$x" in page and "$A $B" in page.replace("&#36;", "$")


@pytest.mark.parametrize(
    "path", sorted((PROJECT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem
)
def test_no_formula_of_the_notebooks_is_left_as_tex(path: Path) -> None:
    texts = [
        cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"
    ]

    page = exported(*texts)

    assert "$" not in page
    assert "\\" not in page  # a command that is not known is left so

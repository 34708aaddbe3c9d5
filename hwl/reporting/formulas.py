"""The formulas of a notebook's text as MathML, which browsers show without a script or a server."""

from __future__ import annotations

import re

from latex2mathml.converter import convert
from nbconvert.preprocessors import Preprocessor
from nbformat import NotebookNode

# Code, where a dollar is a dollar, or TeX: displayed, or in a line.
FORMULA = re.compile(
    r"(?P<code>```.*?```|`[^`]*`)|\$\$(?P<block>.+?)\$\$|\$(?P<inline>[^$\n]+)\$", re.S
)


class Formulas(Preprocessor):
    """Replaces the TeX of a notebook's text cells when it is exported."""

    def preprocess_cell(
        self, cell: NotebookNode, resources: dict, index: int
    ) -> tuple[NotebookNode, dict]:
        """The cell with its formulas as MathML."""
        if cell.cell_type == "markdown":
            cell.source = FORMULA.sub(_as_mathml, cell.source)
        return cell, resources


def _as_mathml(match: re.Match[str]) -> str:
    if match["code"]:
        return match[0]
    if match["block"]:
        return convert(match["block"].strip(), display="block")
    return convert(match["inline"])

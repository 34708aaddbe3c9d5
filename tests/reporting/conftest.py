"""What tests of figures share."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text


@pytest.fixture(autouse=True)
def closed_figures() -> Iterator[None]:
    yield
    plt.close("all")


def drawn_texts(figure: Figure) -> list[Text]:
    """All visible texts but the labels of ticks that lie beyond an axis' ends, or of no axis."""
    figure.draw_without_rendering()
    beyond = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if not low <= tick.get_loc() <= high or not axes.axison:
                    beyond |= {tick.label1, tick.label2}
    texts = figure.findobj(Text)
    return [text for text in texts if text.get_text().strip() and text not in beyond]


@pytest.fixture
def assert_readable() -> Callable[[Figure], None]:
    """Checks that all texts lie within a figure and that no two of them overlap."""

    def check(figure: Figure) -> None:
        shown = [text for text in drawn_texts(figure) if text.get_visible()]
        # Text's own, for an annotation's has its line in it.
        boxes = [Text.get_window_extent(text) for text in shown]
        inside = figure.bbox.padded(1)
        for text, box in zip(shown, boxes, strict=True):
            assert inside.x0 <= box.x0 and box.x1 <= inside.x1, text
            assert inside.y0 <= box.y0 and box.y1 <= inside.y1, text
        for (one, a), (other, b) in itertools.combinations(zip(shown, boxes, strict=True), 2):
            width = min(a.x1, b.x1) - max(a.x0, b.x0)
            height = min(a.y1, b.y1) - max(a.y0, b.y0)
            assert width <= 1 or height <= 2, (one, other)

    return check

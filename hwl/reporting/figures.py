"""What all figures share: colors, a style that is put on where figures are made, and saving."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hwl.files import replacing

# Okabe and Ito's colors, which color-blind readers can tell apart.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
OURS, OTHER = PALETTE[1], "#7A8594"  # the paper's model or loss, and what it is compared with

STYLE = {
    **sns.axes_style("whitegrid"),
    **sns.plotting_context("notebook", font_scale=0.9),
    "axes.prop_cycle": cycler(color=PALETTE),
    "axes.titlelocation": "left",
    "axes.edgecolor": "0.7",
    "grid.color": "0.9",
    "figure.constrained_layout.use": True,
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "svg.hashsalt": "hwl",  # the same figure gives the same file
}


@contextmanager
def style() -> Iterator[None]:
    """The style of hwl's figures, to make and to save them in; a decorator too."""
    interactive = plt.isinteractive()
    try:
        with plt.rc_context(STYLE):
            yield
            # Jupyter's backend wakes up with the first figure and then shows figures by itself.
            interactive = plt.isinteractive()
    finally:
        matplotlib.interactive(interactive)


@style()
def save(figure: Figure, folder: Path, name: str) -> None:
    """Write a figure into a run's folder as PNG and SVG."""
    for kind, metadata in (("png", {}), ("svg", {"Date": None})):
        with replacing(folder / f"{name}.{kind}") as partial:
            figure.savefig(partial, format=kind, metadata=metadata)


def wrapped(text: str, figure: Figure, per_inch: float = 12.5) -> str:
    """A small text in lines that fit a figure's width.

    Args:
        text: of one paragraph.
        figure: knows its width.
        per_inch: letters an inch.
    """
    return textwrap.fill(text, int(per_inch * figure.get_figwidth()))


def describe(figure: Figure, title: str, conditions: str) -> None:
    """Put a title over a figure and the conditions of its numbers below it, in lines that fit.

    Args:
        figure: complete but for these.
        title: what the figure shows.
        conditions: data, model, protocol and machine; what its marks mean.
    """
    lines = wrapped(title, figure, per_inch=8.5)
    figure.suptitle(lines, x=0.01, ha="left", fontsize="large", fontweight="bold")
    note = wrapped(conditions, figure)
    figure.supxlabel(note, x=0.01, ha="left", fontsize="small", color="0.35")


def counted(number: int, thing: str, things: str = "") -> str:
    """A number and its thing, in the plural where there is not one: "1 image", "2 images"."""
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"


def spoken(keypoint: str) -> str:
    """A keypoint's name as text: "left knee"."""
    return keypoint.replace("_", " ")


@style()
def image_row(
    images: Sequence[np.ndarray], titles: Sequence[str], columns: int, width: float = 2.2
) -> Figure:
    """Images in rows of `columns`, each with a title.

    Args:
        images: (H, W, 3) uint8 RGB.
        titles: one an image.
        columns: images a row.
        width: of an image, inches.
    """
    rows = -(-len(images) // columns)
    aspect = max(image.shape[0] / image.shape[1] for image in images)
    figure, axes = plt.subplots(
        rows, columns, figsize=(width * columns, rows * (width * aspect + 0.3)), squeeze=False
    )
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, title in zip(axes.flat, images, titles, strict=False):
        show_image(axis, image, title)
    return figure


def show_image(axis: Axes, image: np.ndarray, title: str) -> None:
    """An image without ticks, under a small title."""
    axis.imshow(image)
    axis.set_axis_off()
    axis.set_title(title, fontsize="small", loc="center")

"""Figures of a model show what its layers are and take."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest
from matplotlib.figure import Figure

from hwl.models import MODELS, create_model
from hwl.reporting.model_figures import KINDS, architecture, layer_times, rate_over_intensity
from hwl.speed.layers import layer_table

Readable = Callable[[Figure], None]


@pytest.fixture(scope="module")
def layers() -> pd.DataFrame:
    """Layers of the paper's model that take a ms a million operations, and one at least."""
    table = layer_table(create_model("ours"), (256, 192))
    milliseconds = 1 + table["MACs"] / 1e6
    return table.assign(**{"ms": milliseconds, "GFLOP/s": 2 * table["MACs"] / milliseconds / 1e6})


# Lite-HRNet-18 has the blocks of Lite-HRNet-30, and fewer of them.
@pytest.mark.parametrize("name", [name for name in MODELS if name != "litehrnet18"])
def test_every_model_can_be_drawn(name: str, assert_readable: Readable) -> None:
    figure = architecture(layer_table(create_model(name), (64, 32)), name, (64, 32))

    assert_readable(figure)


def test_the_parts_are_named_with_their_output(layers: pd.DataFrame) -> None:
    figure = architecture(layers, "ours", (256, 192))

    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[:3] == ["crop  3, 256x192", "conv1  16, 128x96", "layer1  16, 128x96"]
    assert texts[-3:] == ["stage 3  256, 64x48", "attention 3  256, 64x48", "final  17, 64x48"]
    assert "3,077,882 parameters" in figure.get_supxlabel().replace("\n", " ")


def test_a_blocks_bar_is_as_long_as_its_layers_take(
    layers: pd.DataFrame, assert_readable: Readable
) -> None:
    figure = layer_times(layers, "a machine")

    left, right = figure.axes
    last = [container[0] for container in left.containers][-1]
    first_block = layers[layers["block"] == "conv1"]["ms"].sum()
    assert last.get_x() + last.get_width() == pytest.approx(first_block)
    depthwise = right.containers[list(KINDS).index("depthwise convolution")]
    own = layers[layers["kind"] == "depthwise convolution"]
    assert depthwise[0].get_width() == pytest.approx(own["MACs"].sum() / layers["MACs"].sum())
    assert depthwise[2].get_width() == pytest.approx(own["ms"].sum() / layers["ms"].sum())
    assert_readable(figure)


def test_convolutions_lie_below_the_peak_rate(
    layers: pd.DataFrame, assert_readable: Readable
) -> None:
    figure = rate_over_intensity(layers, 100.0, "a machine")

    dots = sum(len(collection.get_offsets()) for collection in figure.axes[0].collections)
    assert dots == (layers["MACs"] > 0).sum()
    assert "100 GFLOP/s" in figure.axes[0].texts[0].get_text()
    assert_readable(figure)

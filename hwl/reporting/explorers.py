"""Figures with controls, for live notebooks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import ipywidgets
import matplotlib.pyplot as plt
from IPython.display import display
from matplotlib.figure import Figure

from hwl.losses import WEIGHT_FUNCTIONS
from hwl.reporting.figures import spoken
from hwl.reporting.loss_figures import formula, keypoint_maps, loss_line
from hwl.studies.loss import Batch


def explore_loss_line() -> None:
    """Show `loss_line` with controls for the weight function and for the predicted peak."""
    function = _functions()
    shift = ipywidgets.FloatSlider(2.0, min=-8, max=8, step=0.5, description="shift, cells")
    height = ipywidgets.FloatSlider(0.8, min=0, max=1.2, step=0.05, description="height")
    controls = [function, shift, height]
    _explore(controls, lambda: loss_line(function.value, shift.value, height.value))


def explore_keypoints(batch: Batch, person: int, keypoint: int, conditions: str) -> None:
    """Show `keypoint_maps` with controls for person, keypoint and weight function.

    Args:
        batch: from `hwl.studies.loss.load_batch`.
        person: index into the batch to begin with.
        keypoint: index into the skeleton to begin with.
        conditions: data and model.
    """
    who = ipywidgets.IntSlider(person, 0, len(batch.crops) - 1, description="person")
    what = ipywidgets.Dropdown(
        options=[(spoken(name), number) for number, name in enumerate(batch.skeleton.keypoints)],
        value=keypoint,
        description="keypoint",
    )
    function = _functions()

    def maps() -> Figure:
        shown = list(dict.fromkeys(["zero", function.value]))
        return keypoint_maps(batch, who.value, what.value, shown, conditions)

    _explore([who, what, function], maps)


def _functions() -> ipywidgets.Dropdown:
    options = [(formula(name), name) for name in WEIGHT_FUNCTIONS]
    return ipywidgets.Dropdown(options=options, value="identity", description="F")


def _explore(controls: Sequence[ipywidgets.ValueWidget], draw: Callable[[], Figure]) -> None:
    """Show controls over a figure that is drawn anew whenever one of them changes.

    The figure is a display that is updated. An Output widget, which is what ipywidgets.interact
    draws into, makes nbclient send on the channel on which it awaits a cell's end, and miss that
    end at times: the run then hangs.
    """

    def figure() -> Figure:
        drawn = draw()
        plt.close(drawn)
        return drawn

    display(ipywidgets.HBox(list(controls)))
    handle = display(figure(), display_id=True)
    for control in controls:
        control.observe(lambda _: handle.update(figure()), names="value")

"""Target, prediction, weight and gradient of one keypoint as maps, to look at and to explore."""

from __future__ import annotations

from collections.abc import Sequence

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import display
from matplotlib.figure import Figure

from hwl.losses import WEIGHT_FUNCTIONS, HeatmapWeightingLoss
from hwl.reporting.drawing import overlay
from hwl.reporting.figures import image_row
from hwl.studies.loss import Batch, gradient


def maps_of_keypoint(
    batch: Batch, person: int, keypoint: int, functions: Sequence[str]
) -> tuple[list[np.ndarray], list[str]]:
    """Images and titles: crop, target and prediction, then each function's weight and gradient.

    Args:
        batch: from `load_batch`.
        person: index into the batch.
        keypoint: index into the skeleton.
        functions: weight functions to show.
    """
    image = batch.image(person)
    target, predicted = batch.target[person, keypoint], batch.predicted[person, keypoint]
    images = [image, overlay(image, target.numpy()), overlay(image, predicted.numpy())]
    titles = [
        "image",
        f"target, {batch.skeleton.keypoints[keypoint].replace('_', ' ')}",
        "prediction",
    ]
    for name in functions:
        images += [
            HeatmapWeightingLoss(name).weight(target).numpy(),
            gradient(batch, name)[person, keypoint].numpy(),
        ]
        titles += [f"{name}: weight", f"{name}: |gradient|"]
    return images, titles


def explore(batch: Batch) -> None:
    """Show controls for person, keypoint and weight function over the maps of `maps_of_keypoint`.

    The maps are a display that is updated. An Output widget, which is what ipywidgets.interact
    draws into, makes nbclient send on the channel on which it awaits a cell's end, and miss that
    end at times: the run then hangs.
    """
    person = ipywidgets.IntSlider(0, 0, len(batch.crops) - 1, description="person")
    keypoint = ipywidgets.Dropdown(
        options=[(name, number) for number, name in enumerate(batch.skeleton.keypoints)],
        description="keypoint",
    )
    function = ipywidgets.Dropdown(
        options=list(WEIGHT_FUNCTIONS), value="identity", description="F"
    )

    def maps() -> Figure:
        shown = maps_of_keypoint(batch, person.value, keypoint.value, [function.value])
        figure = image_row(*shown, columns=5)
        plt.close(figure)
        return figure

    controls = ipywidgets.HBox([person, keypoint, function])
    display(controls)
    handle = display(maps(), display_id=True)
    for control in controls.children:
        control.observe(lambda _: handle.update(maps()), names="value")

"""What the weighting does over training: shares and peaks against loops, and kept weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hwl.codec import HeatmapCodec
from hwl.errors import HwlError
from hwl.skeletons import COCO
from hwl.studies.loss import Batch
from hwl.studies.over_training import measure, trace
from hwl.training.config import TrainConfig
from hwl.training.fit import fit

HEIGHT, WIDTH = 32, 24  # cells


@pytest.fixture
def batch() -> Batch:
    """Two persons, some keypoints unannotated, and predictions with errors."""
    rng = np.random.default_rng(0)
    codec = HeatmapCodec((4 * HEIGHT, 4 * WIDTH))
    parts = [
        codec.encode(rng.uniform(0, (90, 120), (len(COCO), 2)), rng.random(len(COCO)) < 0.8)
        for _ in range(2)
    ]
    target, weight = (torch.from_numpy(np.stack(p)) for p in zip(*parts, strict=True))
    noise = torch.randn(target.shape, generator=torch.manual_seed(0))
    crops = torch.zeros(2, 3, 4 * HEIGHT, 4 * WIDTH, dtype=torch.uint8)
    return Batch(COCO, crops, target, weight, 0.5 * target + 0.05 * noise)


def test_shares_and_peaks_are_those_of_a_loop_over_annotated_keypoints(batch: Batch) -> None:
    loss, near, heights, background = [0.0, 0.0], [0.0, 0.0], [], []
    for person, keypoint in np.argwhere(batch.weight.numpy() > 0):
        p, g = (x[person, keypoint].double().numpy() for x in (batch.predicted, batch.target))
        parts = (1 + g) * (p - g) ** 2
        loss[0] += parts[g > 0.1].sum()
        loss[1] += parts.sum()
        pull = (1 + g) * np.abs(p - g)
        near[0] += pull[g > 0.1].sum()
        near[1] += pull.sum()
        heights.append(p.max())
        background += p[g == 0].tolist()

    found = measure(batch, "identity")

    assert found["loss_share"] == pytest.approx(loss[0] / loss[1], rel=1e-4)
    assert found["gradient_share"] == pytest.approx(near[0] / near[1], rel=1e-4)
    assert found["peak_height"] == pytest.approx(np.mean(heights), rel=1e-5)
    assert found["background_rms"] == pytest.approx(np.sqrt(np.mean(np.square(background))))


def test_a_perfect_prediction_has_the_targets_peaks_and_no_error(batch: Batch) -> None:
    found = measure(replace(batch, predicted=batch.target + 1e-9), "zero")

    assert found["median_error"] == 0 and found["keypoint_rms"] == pytest.approx(0, abs=1e-6)
    # Above half of a Gaussian of sigma 2 is a disk of 2 * 2 * sqrt(2 ln 2) = 4.7 cells, less where
    # it is cut by the border.
    assert found["peak_width"] == pytest.approx(4.7, abs=0.6)


def test_weights_are_kept_at_every_checkpoint_and_change_nothing(
    small_training: Callable[..., TrainConfig], trained: Path, tmp_path: Path
) -> None:
    config = small_training(tmp_path / "run", keep_weights=True)

    fit(config)
    table = trace(config)

    assert table["step"].tolist() == [2, 3, 5, 6]
    last, plain = ((f / "last.safetensors").read_bytes() for f in (tmp_path / "run", trained))
    assert last == plain
    assert (tmp_path / "run/weights/step-000006.safetensors").read_bytes() == last
    assert table["peak_height"].is_unique and table.notna().all(axis=None)


def test_a_run_without_kept_weights_is_named(
    small_training: Callable[..., TrainConfig], trained: Path
) -> None:
    with pytest.raises(HwlError, match="kept no weights; train with keep_weights"):
        trace(small_training(trained))

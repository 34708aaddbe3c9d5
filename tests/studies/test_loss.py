"""The study of the loss: gradients by formula, and where a weight moves them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hwl.codec import HeatmapCodec
from hwl.errors import HwlError
from hwl.losses import WEIGHT_FUNCTIONS
from hwl.models import create_model
from hwl.models.weights import save_weights
from hwl.skeletons import COCO
from hwl.studies.loss import (
    RANGES,
    Batch,
    LossStudyConfig,
    clearest_error,
    gradient,
    gradient_shares,
    load_batch,
    weight_curves,
    with_fresh_model,
)

PERSONS, HEIGHT, WIDTH = 3, 16, 8  # cells


@pytest.fixture
def batch() -> Batch:
    """Poses with keypoints anywhere, some unannotated, and predictions that miss them."""
    rng = np.random.default_rng(0)
    codec = HeatmapCodec((4 * HEIGHT, 4 * WIDTH))
    keypoints = rng.uniform(0, (4 * WIDTH, 4 * HEIGHT), (PERSONS, len(COCO), 2))
    annotated = rng.random((PERSONS, len(COCO))) < 0.8
    pairs = [codec.encode(j, w) for j, w in zip(keypoints, annotated.astype(float), strict=True)]
    target, weight = (torch.from_numpy(np.stack(parts)) for parts in zip(*pairs, strict=True))
    noise = torch.randn(target.shape, generator=torch.manual_seed(0))
    crops = torch.zeros(PERSONS, 3, 4 * HEIGHT, 4 * WIDTH, dtype=torch.uint8)
    return Batch(COCO, crops, target, weight, 0.5 * target + 0.2 * noise)


@pytest.mark.parametrize(
    ("name", "weight"),
    [
        ("zero", lambda g: 1),
        ("identity", lambda g: 1 + g),
        ("double", lambda g: 1 + 2 * g),
        ("square", lambda g: 1 + g**2),
        ("exponential", lambda g: 1 + torch.exp(g)),
    ],
)
def test_the_gradient_is_that_of_the_formula(name: str, weight: object, batch: Batch) -> None:
    count = PERSONS * len(COCO) * HEIGHT * WIDTH
    keypoint_weight = batch.weight[:, :, None, None] ** 2

    pull = gradient(batch, name)

    error = (batch.predicted - batch.target).abs()
    torch.testing.assert_close(pull, 2 * weight(batch.target) * keypoint_weight * error / count)


def test_the_batch_is_left_alone(batch: Batch) -> None:
    predicted = batch.predicted.clone()

    gradient_shares(batch)

    assert torch.equal(batch.predicted, predicted) and not batch.predicted.requires_grad


def test_the_shares_of_every_weight_function_sum_to_one(batch: Batch) -> None:
    shares = gradient_shares(batch)

    assert shares.index.tolist() == list(WEIGHT_FUNCTIONS) and list(shares) == list(RANGES)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)


def test_each_share_is_that_of_its_range_of_the_target(batch: Batch) -> None:
    pull, target = gradient(batch, "zero"), batch.target
    inside = [target == 0, (target > 0) & (target <= 0.1)]
    inside += [(target > 0.1) & (target <= 0.5), target > 0.5]

    shares = gradient_shares(batch).loc["zero"]

    expected = [float(pull[where].sum() / pull.sum()) for where in inside]
    np.testing.assert_allclose(shares, expected, rtol=1e-5)


def test_a_steeper_weight_takes_from_the_background_and_gives_to_the_peak(batch: Batch) -> None:
    shares = gradient_shares(batch).loc[["zero", "identity", "double"]]

    assert shares["0 (background)"].is_monotonic_decreasing
    assert shares["0 (background)"].is_unique
    assert shares["0.5 to 1"].is_monotonic_increasing


def test_the_clearest_error_is_the_annotated_keypoint_that_is_missed_most(batch: Batch) -> None:
    batch.weight[2, 5], batch.weight[1, 4] = 1, 0
    batch.predicted[2, 5] += 1
    batch.predicted[1, 4] += 9  # unannotated

    assert clearest_error(batch) == (2, 5)


def test_weight_curves_run_from_background_to_peak() -> None:
    target, weight = weight_curves()["double"]

    assert (target[0], target[-1], weight[0], weight[-1]) == (0, 1, 1, 3)


def test_a_batch_holds_the_first_persons_with_predictions(puppets: Path, trained: Path) -> None:
    weights = str(trained / "best.safetensors")

    batch = load_batch(LossStudyConfig("run", str(puppets), weights, persons=3))

    assert batch.crops.shape == (3, 3, 64, 32)
    assert batch.target.shape == batch.predicted.shape == (3, 17, 16, 8)
    assert batch.weight.shape == (3, 17)
    assert not batch.predicted.requires_grad and batch.predicted.std() > 0


def test_a_fresh_model_is_of_the_same_kind_and_predicts_next_to_nothing(
    puppets: Path, trained: Path
) -> None:
    weights = str(trained / "best.safetensors")
    config = LossStudyConfig("run", str(puppets), weights, persons=3)
    batch, random = load_batch(config), torch.get_rng_state()

    fresh = with_fresh_model(batch, config)

    assert fresh.predicted.shape == batch.predicted.shape
    assert fresh.predicted.abs().max() < 0.1
    assert torch.equal(fresh.target, batch.target)
    assert torch.equal(fresh.predicted, with_fresh_model(batch, config).predicted)
    assert torch.equal(torch.get_rng_state(), random)
    # Nothing predicted and nothing to predict: the background has no gradient to speak of.
    assert gradient_shares(fresh).loc["zero"].iloc[0] < 0.2


def test_a_model_of_other_keypoints_is_refused(puppets: Path, tmp_path: Path) -> None:
    save_weights(create_model("ours", 16), tmp_path / "w.safetensors")

    with pytest.raises(HwlError, match="predicts 16 keypoints"):
        load_batch(LossStudyConfig("run", str(puppets), str(tmp_path / "w.safetensors")))

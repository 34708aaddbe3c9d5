"""Paired statistics: against slow independent references, and by their rates on simulated runs."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from scipy import stats

from hwl.studies.paired import (
    EARLY_P,
    Interval,
    bootstrap_interval,
    holm,
    paired_interval,
    paired_p,
    power,
    seeds_needed,
    verdict,
)

SIMULATIONS = 1_000
EFFECT = 0.005


def covered(interval: Interval, truth: float) -> np.ndarray:
    return (interval.low <= truth) & (truth <= interval.high)


def runs(rng: np.random.Generator, effect: float, seeds: int = 12, images: int = 40) -> tuple:
    """(S, P) differences with an effect of seeds, of images and of single persons, and images."""
    image_index = np.repeat(np.arange(images), 1 + np.arange(images) % 3)
    by_seed = 0.006 * rng.standard_normal((seeds, 1))
    by_image = 0.02 * rng.standard_normal(images)[image_index]
    noise = 0.1 * rng.standard_normal((seeds, len(image_index)))
    return effect + by_seed + by_image + noise, image_index


def test_paired_interval_is_the_textbooks() -> None:
    differences = [0.012, -0.003, 0.008, 0.005]
    reach = 3.182446 * statistics.stdev(differences) / math.sqrt(4)  # t of 0.975 at 3 degrees

    found = paired_interval(np.array(differences))

    mean = statistics.mean(differences)
    assert (found.mean, found.low, found.high) == pytest.approx((mean, mean - reach, mean + reach))


def test_paired_p_is_that_of_the_paired_t_test() -> None:
    first, second = np.array([0.51, 0.55, 0.53]), np.array([0.50, 0.52, 0.53])

    assert paired_p(first - second) == pytest.approx(stats.ttest_rel(first, second).pvalue)


def test_one_pair_has_a_mean_and_no_interval() -> None:
    found = paired_interval(np.array([0.1]))

    assert found.mean == 0.1 and math.isnan(found.low) and math.isnan(found.high)
    assert math.isnan(paired_p(np.array([0.1])))
    assert math.isnan(bootstrap_interval(np.ones((1, 4)), np.arange(4)).low)


def test_paired_interval_covers_a_known_effect_at_the_nominal_rate() -> None:
    differences = EFFECT + 0.006 * np.random.default_rng(1).standard_normal((SIMULATIONS, 12))

    rate = covered(paired_interval(differences), EFFECT).mean()

    assert 0.93 <= rate <= 0.97


def test_paired_interval_finds_an_effect_in_5_percent_where_there_is_none() -> None:
    differences = 0.006 * np.random.default_rng(2).standard_normal((SIMULATIONS, 12))

    rate = 1 - covered(paired_interval(differences), 0).mean()

    assert 0.03 <= rate <= 0.07


def test_a_look_before_the_last_seed_leaves_the_rate_of_false_findings_at_5_percent() -> None:
    differences = 0.006 * np.random.default_rng(3).standard_normal((SIMULATIONS, 24))

    p = np.array([[paired_p(row[:16]), paired_p(row)] for row in differences])
    rate = ((p[:, 0] < EARLY_P) | (p[:, 1] < 0.05)).mean()

    assert 0.03 <= rate <= 0.07


@pytest.mark.parametrize("effect", [EFFECT, 0.0])
def test_bootstrap_interval_covers_the_effect_at_the_nominal_rate(effect: float) -> None:
    """With an effect of 0, what it does not cover are the effects that it finds wrongly."""
    rng = np.random.default_rng(3)

    found = [
        covered(bootstrap_interval(*runs(rng, effect), resamplings=400), effect)
        for _ in range(SIMULATIONS)
    ]

    assert 0.93 <= np.mean(found) <= 0.97


def test_paired_interval_alone_would_miss_the_spread_of_images() -> None:
    rng = np.random.default_rng(4)

    found = [
        covered(paired_interval(runs(rng, EFFECT)[0].mean(axis=1)), EFFECT)
        for _ in range(SIMULATIONS)
    ]

    assert np.mean(found) < 0.92


def slow_bootstrap(differences: np.ndarray, image_index: np.ndarray, draws: int) -> list[float]:
    """Means over seeds and images drawn one by one, sorted."""
    rng = np.random.default_rng(9)
    seeds, images = len(differences), sorted(set(image_index.tolist()))
    persons = {image: np.flatnonzero(image_index == image) for image in images}
    means = []
    for _ in range(draws):
        chosen = [persons[images[i]] for i in rng.integers(len(images), size=len(images))]
        rows = rng.integers(seeds, size=seeds)
        values = [differences[row, person] for row in rows for image in chosen for person in image]
        means.append(statistics.fmean(values))
    return sorted(means)


def test_bootstrap_interval_is_that_of_a_loop_where_neither_correction_matters() -> None:
    """Many seeds and hardly any noise of single persons: a plain percentile interval will do."""
    rng = np.random.default_rng(5)
    image_index = np.repeat(np.arange(20), [1, 2] * 10)
    by_image = 0.03 * rng.standard_normal(20)[image_index]
    differences = 0.02 + 0.03 * rng.standard_normal((60, 1)) + by_image
    means = slow_bootstrap(differences, image_index, 1000)

    found = bootstrap_interval(differences, image_index, resamplings=20_000)

    assert found.mean == pytest.approx(differences.mean())
    plain = np.quantile(means, [0.025, 0.975]) - found.mean
    assert (found.low - found.mean, found.high - found.mean) == pytest.approx(plain, rel=0.1)


def test_bootstrap_interval_with_noise_of_seeds_alone_is_the_paired_interval() -> None:
    by_seed = np.random.default_rng(6).standard_normal((12, 1))
    differences = np.repeat(by_seed, 50, axis=1)

    found = bootstrap_interval(differences, np.arange(50), resamplings=20_000)

    expected = paired_interval(by_seed[:, 0])
    assert (found.high - found.low) == pytest.approx(expected.high - expected.low, rel=0.1)


def test_bootstrap_interval_does_not_depend_on_the_order_of_persons() -> None:
    differences, image_index = runs(np.random.default_rng(7), EFFECT)
    order = np.random.default_rng(8).permutation(len(image_index))

    found = bootstrap_interval(differences[:, order], image_index[order])

    expected = bootstrap_interval(differences, image_index)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize("pairs", [4, 12])
def test_power_is_the_share_of_simulated_experiments_that_find_the_effect(pairs: int) -> None:
    differences = EFFECT + 0.006 * np.random.default_rng(9).standard_normal((20_000, pairs))

    share = (paired_interval(differences).low > 0).mean()

    assert power(EFFECT, 0.006, pairs) == pytest.approx(share, abs=0.01)


def test_seeds_needed_are_the_fewest_with_80_percent_power_and_within_12_to_24() -> None:
    needed = seeds_needed(0.007)

    assert 12 < needed < 24
    assert power(EFFECT, 0.007, needed) >= 0.8 > power(EFFECT, 0.007, needed - 1)
    assert (seeds_needed(0.0), seeds_needed(0.001), seeds_needed(1.0)) == (12, 12, 24)


@pytest.mark.parametrize(
    ("low", "high", "sentence"),
    [
        (0.001, 0.004, "supported"),
        (-0.004, -0.001, "contradicted"),
        (-0.002, 0.0061, "within +-0.7 points"),
        (-0.0123, 0.004, "within +-1.3 points"),
        (0.0, 0.004, "within +-0.4 points"),
        (float("nan"), float("nan"), "cannot tell: one pair"),
    ],
)
def test_the_verdict_follows_from_the_interval(low: float, high: float, sentence: str) -> None:
    assert verdict(Interval((low + high) / 2, low, high)) == sentence


def test_holm_adjusts_step_by_step_and_leaves_out_what_was_not_tested() -> None:
    adjusted = holm([0.01, 0.04, float("nan"), 0.03])

    np.testing.assert_allclose(adjusted, [0.03, 0.06, np.nan, 0.06])

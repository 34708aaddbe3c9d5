"""Statistics of paired runs: two arms trained from the same seeds and tested on the same images.

A seed fixes first weights, order and augmentation, so arms are compared within seeds. Two intervals
of the mean difference are computed: Student's t over seeds, for these test images; and a bootstrap
over seeds and images together, for other images of their kind too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
EARLY_P = 0.001  # what p has to fall below while seeds are to come (Haybittle 1971, Peto 1976)
POWER = 0.8
EFFECT = 0.005  # smallest difference of mean OKS that a comparison shall find: 0.5 points
FEWEST_SEEDS, MOST_SEEDS = 12, 24
RESAMPLINGS = 2_000
NO_SPREAD = "cannot tell: one pair"


@dataclass(frozen=True)
class Interval:
    """A mean difference with its confidence interval.

    Attributes:
        mean: of the differences.
        low: lower end, NaN where it cannot be told.
        high: upper end, likewise.
    """

    mean: float
    low: float
    high: float


def paired_interval(differences: np.ndarray) -> Interval:
    """Student's 95 % interval of the mean of paired differences.

    Args:
        differences: (..., S) one a seed; leading axes are comparisons of their own.

    Returns:
        Numbers, or arrays of the leading shape; the ends are NaN with a single pair.
    """
    differences = np.asarray(differences, dtype=np.float64)
    pairs = differences.shape[-1]
    mean = differences.mean(axis=-1)
    if pairs < 2:
        return Interval(mean, np.full_like(mean, np.nan)[()], np.full_like(mean, np.nan)[()])
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, pairs - 1)
    reach = quantile * differences.std(axis=-1, ddof=1) / np.sqrt(pairs)
    return Interval(mean, mean - reach, mean + reach)


def paired_p(differences: np.ndarray) -> float:
    """Two-sided p of the paired t test, NaN with a single pair."""
    if len(differences) < 2:
        return float("nan")
    return float(stats.ttest_1samp(differences, 0).pvalue)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Holm's adjusted p of one family of tests; NaN stays NaN and does not count."""
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full_like(p, np.nan)
    order = [i for i in np.argsort(p) if not np.isnan(p[i])]
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p[i]))
        adjusted[i] = largest
    return adjusted


def bootstrap_interval(
    differences: np.ndarray, image_index: np.ndarray, resamplings: int = RESAMPLINGS, seed: int = 0
) -> Interval:
    """95 % interval of the mean difference for other seeds and other images, by a bootstrap.

    Seeds and images are drawn independently with replacement (the pigeonhole bootstrap, Owen
    2007); an image brings all its persons. Drawn so, means vary more than they should where
    persons of single runs differ, and less where seeds are few. Their spread is therefore scaled
    to the unbiased variance of a two-way layout, and their percentiles are those that widen a
    normal interval to Student's (Hesterberg 2015) at Satterthwaite's degrees of freedom.

    Args:
        differences: (S, P) difference of each person's OKS for each seed.
        image_index: (P,) whole numbers, the image of each person.
        resamplings: drawn.
        seed: of the drawing.

    Returns:
        The mean over seeds and persons; the ends are NaN with a single pair or image.
    """
    _, groups = np.unique(image_index, return_inverse=True)
    counts = np.bincount(groups)
    sums = np.stack([np.bincount(groups, weights=row) for row in np.asarray(differences)])
    seeds, images = sums.shape
    mean = float(sums.sum() / (seeds * counts.sum()))
    if min(seeds, images) < 2:
        return Interval(mean, float("nan"), float("nan"))
    drawn_seeds, drawn_images = _drawn(seeds, images, resamplings, seed)
    totals = ((drawn_seeds @ sums) * drawn_images).sum(axis=1)
    means = totals / (seeds * (drawn_images @ counts))
    variance, freedom = _variance(sums, counts)
    spread = means.std()
    if not spread or not variance:
        return Interval(mean, mean, mean)
    tail = stats.norm.cdf(stats.t.ppf((1 - CONFIDENCE) / 2, freedom))
    low, high = np.quantile(means - mean, [tail, 1 - tail]) * np.sqrt(variance) / spread
    return Interval(mean, float(mean + low), float(mean + high))


@lru_cache(maxsize=4)
def _drawn(seeds: int, images: int, resamplings: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each seed (B, S) and each image (B, I) is drawn, the same for all comparisons."""
    rng = np.random.default_rng(seed)
    return (
        rng.multinomial(seeds, np.full(seeds, 1 / seeds), resamplings).astype(np.float64),
        rng.multinomial(images, np.full(images, 1 / images), resamplings).astype(np.float64),
    )


def _variance(sums: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """Unbiased variance of the mean over seeds and images, and Satterthwaite's degrees of freedom.

    Args:
        sums: (S, I) differences summed over an image's persons.
        counts: (I,) persons an image.
    """
    seeds, images = sums.shape
    # What each seed and image adds to the mean, which is a ratio of sums over images.
    mean = sums.sum() / (seeds * counts.sum())
    table = (sums - mean * counts) * (images / counts.sum())
    rows, columns = table.mean(axis=1), table.mean(axis=0)
    rest = table - rows[:, None] - columns
    both = (seeds - 1) * (images - 1)
    of_seeds, of_images = rows.var(ddof=1) / seeds, columns.var(ddof=1) / images
    of_rest = np.square(rest).sum() / both / rest.size
    # Both parts hold the rest's variance; the mean has it once.
    variance = max(of_seeds + of_images - of_rest, of_seeds, of_images)
    parts = of_seeds**2 / (seeds - 1) + of_images**2 / (images - 1) + of_rest**2 / both
    return float(variance), float(variance**2 / parts) if parts else float("inf")


def power(effect: float, spread: float, pairs: int) -> float:
    """Chance that the paired t test of so many pairs finds an effect, with its right sign.

    Args:
        effect: true mean difference.
        spread: standard deviation of the differences, above 0.
        pairs: at least 2.
    """
    freedom, shift = pairs - 1, effect * np.sqrt(pairs) / spread
    limit = stats.t.ppf((1 + CONFIDENCE) / 2, freedom)
    return float(stats.nct.sf(limit, freedom, shift))


def seeds_needed(spread: float) -> int:
    """The fewest pairs with 80 % power for 0.5 points of mean OKS, kept within 12 to 24.

    Args:
        spread: standard deviation over seeds of the pilot's differences.
    """
    for pairs in range(FEWEST_SEEDS, MOST_SEEDS):
        if power(EFFECT, max(spread, 1e-9), pairs) >= POWER:
            return pairs
    return MOST_SEEDS


def verdict(interval: Interval) -> str:
    """The sentence that a claim of a gain gets, by the rule fixed before the runs.

    "supported" or "contradicted" where the interval lies above or below 0; otherwise "within
    +-x points", x being the interval's end farther from 0 in points (hundredths of OKS), rounded
    up to a tenth.
    """
    if np.isnan(interval.low):
        return NO_SPREAD
    if interval.low > 0:
        return "supported"
    if interval.high < 0:
        return "contradicted"
    tenths = np.ceil(round(1000 * max(-interval.low, interval.high), 6))
    return f"within +-{tenths / 10:.1f} points"

"""A simulated person detector: boxes near the true ones, some missed or doubled, false alarms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from pycocotools.mask import iou

SMALLEST = 8  # pixels; no box is detected whose width or height is less


@dataclass(frozen=True)
class Detector:
    """How good the simulated detector is."""

    missed: float = 0.05  # share of the persons
    doubled: float = 0.08  # share of the persons that get a second, worse box
    false_alarms: float = 0.4  # an image, on average
    jitter: float = 0.05  # standard deviation of a box's center and size, over its size
    clipped: bool = True  # to the image

    def detect(
        self, rng: Generator, truths: Sequence[Sequence[float]], image: tuple[int, int]
    ) -> list[dict]:
        """Detections in one image.

        Args:
            rng: draws everything.
            truths: persons' x, y, width, height in pixels.
            image: its width and height in pixels.

        Returns:
            For each `bbox`, x, y, width, height in pixels to a tenth, and `score`, 0 to 1, which
            grows with the overlap with a person.
        """
        truths = [list(truth) for truth in truths]
        guesses = [(np.array(one), self.jitter) for one in truths if rng.random() > self.missed]
        guesses += [
            (np.array(one), 4 * self.jitter) for one in truths if rng.random() < self.doubled
        ]
        for _ in range(rng.poisson(self.false_alarms)):
            corner, size = rng.uniform(-0.1, 0.8, 2) * image, rng.uniform(30, 160, 2)
            guesses.append((np.concatenate([corner, size]), self.jitter))
        found = []
        for guess, jitter in guesses:
            corner, size = guess[:2], guess[2:]
            center = corner + size * (0.5 + jitter * rng.standard_normal(2))
            half = size * np.exp(jitter * rng.standard_normal(2)) / 2
            low, high = center - half, center + half
            if self.clipped:
                low, high = np.clip((low, high), 0, image)
            box = np.round((*low, *(high - low)), 1).tolist()
            if min(box[2:]) > SMALLEST:
                quality = iou([box], truths, [0] * len(truths)).max() if truths else 0
                score = np.clip(0.1 + 0.85 * quality + 0.12 * rng.standard_normal(), 0.02, 0.99)
                found.append({"bbox": box, "score": round(float(score), 3)})
        return found

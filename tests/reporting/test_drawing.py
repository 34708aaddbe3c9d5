"""Drawings of a report: heatmaps over images, good and bad poses."""

from __future__ import annotations

import numpy as np

from hwl.reporting.drawing import overlay

BLACK = np.zeros((200, 160, 3), np.uint8)


def test_a_heatmap_is_brightest_over_its_maximum() -> None:
    heatmap = np.zeros((20, 16))
    heatmap[5, 10] = 0.3

    drawn = overlay(np.full_like(BLACK, 100), heatmap)

    brightness = drawn.sum(axis=2)
    y, x = np.unravel_index(brightness.argmax(), brightness.shape)
    assert abs(x - 105) <= 5 and abs(y - 55) <= 5
    assert drawn.shape == BLACK.shape and drawn.dtype == np.uint8


def test_a_lower_peak_is_drawn_fainter() -> None:
    peak = np.zeros((20, 16))
    peak[5, 10] = 1

    full, low = (overlay(BLACK, height * peak).sum() for height in (1, 0.2))

    assert low < 0.7 * full


def test_an_empty_heatmap_makes_no_noise() -> None:
    assert (overlay(BLACK, np.zeros((20, 16))) == overlay(BLACK, np.zeros((20, 16)))[0, 0]).all()

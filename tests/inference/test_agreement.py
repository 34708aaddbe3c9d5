"""Whether heatmaps count as the model's: what is allowed, and what is refused."""

from __future__ import annotations

import pytest
import torch

from hwl.errors import HwlError
from hwl.inference.agreement import allowed_difference, check_resemblance


@pytest.mark.parametrize(("rounding", "allowed"), [(0.0, 1e-4), (1e-5, 1e-4), (1e-3, 4e-3)])
def test_a_runtime_may_round_four_times_as_much_as_eager_does_on_the_device(
    rounding: float, allowed: float
) -> None:
    """As on a GPU, where convolutions use TF32."""
    exact = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    eager = exact + rounding * exact.abs().max()

    assert allowed_difference(eager, exact) == pytest.approx(allowed, rel=1e-2)


def test_an_int8_export_that_resembles_float32_too_little_is_refused() -> None:
    heatmaps = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))

    check_resemblance(heatmaps + 0.3 * noise, heatmaps, "it")
    for wrong in (noise, -heatmaps, heatmaps * float("nan"), torch.zeros_like(heatmaps)):
        with pytest.raises(HwlError, match="otherwise in int8 than in float32"):
            check_resemblance(wrong, heatmaps, "it")

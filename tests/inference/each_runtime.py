"""What tests of runtimes share: which can run here, and what holds for each."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hwl.inference.predictor import Model
from hwl.inference.runtimes import RUNTIMES, unavailable

# Of these names are the runtimes that read an ONNX file, which test_export.py makes once for all.
OF_A_FILE = ("onnxruntime", "openvino")


def cpu_runtimes(precision: str, of_a_file: bool) -> list[str]:
    """Names of the CPU's runtimes of a precision that read an ONNX file, or that do not."""
    return [
        name
        for name, one in RUNTIMES.items()
        if one.precision == precision
        and "cpu" in one.devices
        and name.startswith(OF_A_FILE) == of_a_file
    ]


def skip_unless_available(name: str) -> None:
    if reason := unavailable(name, "cpu"):
        pytest.skip(reason)


def assert_it_gives_the_models_heatmaps(runtime: Model, model: Model, crops: list[Tensor]) -> None:
    """Of float32 precision, for each of the batches."""
    for batch in crops:
        with torch.inference_mode():
            expected = model(batch)
        found = runtime(batch)
        assert found.dtype == torch.float32
        assert found.shape == expected.shape
        assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


def assert_an_answer_outlives_the_next_one(model: Model, images: Tensor) -> None:
    first = model(images)
    before = first.clone()
    model(-images)

    assert torch.equal(first, before)

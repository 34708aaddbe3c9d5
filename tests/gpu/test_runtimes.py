"""Every runtime that a GPU has gives the heatmaps of the model in eager PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from hwl.inference.runtimes import RUNTIMES, prepare
from hwl.models import MODELS, PoseNet

pytestmark = pytest.mark.gpu
SIZE = (64, 64)
ON_GPU = [name for name, runtime in RUNTIMES.items() if "cuda" in runtime.devices]
# Of the largest value. TF32, which cuDNN's convolutions use by default, has 10 bits of fraction,
# bfloat16 has 7.
TOLERANCE = {"float32": 5e-3, "bfloat16": 5e-2}


@pytest.mark.parametrize("runtime", ON_GPU)
@pytest.mark.parametrize("name", MODELS)
def test_a_runtime_agrees_with_eager_on_the_cpu_for_any_batch(
    name: str, runtime: str, ordinary: Callable[..., PoseNet]
) -> None:
    if runtime.startswith("compile") and name != "ours":
        pytest.skip("compiling six models takes more minutes than a GPU is lent for")
    model = ordinary(name)
    prepared = prepare(model, runtime, SIZE, device="cuda")

    for count in (4, 3) if runtime.startswith("compile") else (4, 3, 1):
        images = torch.randn(count, 3, *SIZE, generator=torch.Generator().manual_seed(5))
        with torch.inference_mode():
            expected = model(images)
        found = prepared(images.cuda())

        assert (found.device.type, found.dtype) == ("cuda", torch.float32)
        difference = (found.cpu() - expected).abs().max() / expected.abs().max()
        assert difference < TOLERANCE[RUNTIMES[runtime].precision]


def test_a_cuda_graphs_answer_is_not_overwritten_by_the_next(
    ordinary: Callable[..., PoseNet],
) -> None:
    prepared = prepare(ordinary(), "cuda-graph", SIZE, device="cuda")
    first = prepared(torch.ones(1, 3, *SIZE, device="cuda"))
    before = first.clone()

    prepared(torch.zeros(1, 3, *SIZE, device="cuda"))

    assert torch.equal(first, before)

"""Every runtime that a GPU has gives the heatmaps of the model in eager PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from hwl.inference.agreement import largest_difference
from hwl.inference.runtimes import RUNTIMES, prepare
from hwl.models import MODELS, PoseNet

pytestmark = pytest.mark.gpu
SIZE = (64, 64)
ON_GPU = {name: one.precision for name, one in RUNTIMES.items() if "cuda" in one.devices}
# Of random weights, which amplify rounding: on a CPU float32 comes out 1e-4 off at the most, and
# bfloat16 with a correlation of 0.9 at the least.
TOLERANCE, CORRELATION = 1e-3, 0.8


@pytest.fixture
def exact() -> Iterator[None]:
    """Products of float32 precision, of which TF32 would keep ten bits."""
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = convolutions.allow_tf32, products.allow_tf32
    convolutions.allow_tf32 = products.allow_tf32 = False
    yield
    convolutions.allow_tf32, products.allow_tf32 = before


@pytest.mark.parametrize("runtime", ON_GPU)
@pytest.mark.parametrize("name", MODELS)
def test_a_runtime_agrees_with_eager_on_the_cpu_for_any_batch(
    name: str, runtime: str, ordinary: Callable[..., PoseNet], exact: None
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
        if ON_GPU[runtime] == "float32":
            assert largest_difference(found.cpu(), expected) < TOLERANCE
        else:
            both = torch.stack([found.cpu().flatten(), expected.flatten()])
            assert torch.corrcoef(both)[0, 1] > CORRELATION


@pytest.mark.parametrize("runtime", ["eager", "fused", "cuda-graph"])
@pytest.mark.parametrize("name", MODELS)
def test_a_runtime_is_not_refused_for_the_rounding_of_tf32(
    name: str, runtime: str, ordinary: Callable[..., PoseNet]
) -> None:
    assert torch.backends.cudnn.allow_tf32  # PyTorch's default

    prepare(ordinary(name), runtime, SIZE, device="cuda")


def test_a_cuda_graphs_answer_is_not_overwritten_by_the_next(
    ordinary: Callable[..., PoseNet],
) -> None:
    prepared = prepare(ordinary(), "cuda-graph", SIZE, device="cuda")
    first = prepared(torch.ones(1, 3, *SIZE, device="cuda"))
    before = first.clone()

    prepared(torch.zeros(1, 3, *SIZE, device="cuda"))

    assert torch.equal(first, before)

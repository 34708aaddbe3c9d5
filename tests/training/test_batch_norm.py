"""Batch normalization of all processes: in a group of one it is torch's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hwl.models import create_model
from hwl.training.batch_norm import SharedBatchNorm2d, share_batch_norm


@pytest.fixture
def group_of_one(tmp_path: Path) -> Iterator[None]:
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def trained_step(norm: nn.BatchNorm2d, images: Tensor) -> dict[str, Tensor]:
    torch.manual_seed(1)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    images = images.clone().requires_grad_()
    normalized = norm(images)
    (normalized * torch.randn_like(normalized)).sum().backward()
    gradients = {"weight": norm.weight.grad, "bias": norm.bias.grad, "images": images.grad}
    return {"normalized": normalized, **gradients, **dict(norm.named_buffers())}


def test_a_training_step_is_that_of_torchs_batch_norm(group_of_one: None) -> None:
    images = 2 + 3 * torch.randn(4, 5, 6, 7, dtype=torch.float64)

    expected = trained_step(nn.BatchNorm2d(5, eps=1e-3, momentum=0.2).double(), images)
    found = trained_step(SharedBatchNorm2d(5, eps=1e-3, momentum=0.2).double(), images)

    torch.testing.assert_close(found, expected)


def test_in_evaluation_the_running_statistics_are_used() -> None:
    norm = SharedBatchNorm2d(2).eval()  # without a group, which evaluation does not need
    norm.running_mean.fill_(3.0)

    assert torch.equal(norm(torch.full((1, 2, 4, 4), 3.0)), torch.zeros(1, 2, 4, 4))


@pytest.mark.parametrize(
    ("device", "kind"), [("cpu", SharedBatchNorm2d), ("cuda", nn.SyncBatchNorm)]
)
def test_a_models_batch_norm_is_replaced_and_its_names_and_values_stay(
    device: str, kind: type
) -> None:
    model = create_model("ours")
    names = list(model.state_dict())
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    values = {key: value.clone() for key, value in model.state_dict().items()}

    share_batch_norm(model, torch.device(device))

    assert list(model.state_dict()) == names
    torch.testing.assert_close(dict(model.state_dict()), values, rtol=0, atol=0)
    assert sum(type(module) is kind for module in model.modules()) == norms > 40

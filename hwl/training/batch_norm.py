"""Batch normalization over the persons of all processes of a training."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class _SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes, whose gradient is the sum of their gradients."""

    @staticmethod
    def forward(_: object, values: Tensor) -> Tensor:
        total = values.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_: object, gradient: Tensor) -> Tensor:
        return _SumOverProcesses.forward(None, gradient)


class SharedBatchNorm2d(nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d` with the statistics of the batches of all processes together.

    For CPUs, where `torch.nn.SyncBatchNorm` does not run. Its parameters and buffers, and what it
    computes, are those of one process with the whole batch.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def forward(self, images: Tensor) -> Tensor:
        """Normalize (N, C, H, W) images; N may differ between processes."""
        if not self.training:
            return super().forward(images)
        count = torch.tensor([images.numel() / images.shape[1]], device=images.device)
        sums = _SumOverProcesses.apply(torch.cat([images.sum((0, 2, 3)), count]))
        mean, count = sums[:-1] / sums[-1], sums[-1].detach()
        centered = images - mean[:, None, None]
        variance = _SumOverProcesses.apply(centered.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        factor = self.weight * (variance + self.eps).rsqrt()
        return centered * factor[:, None, None] + self.bias[:, None, None]


def share_batch_norm(model: nn.Module, device: torch.device) -> None:
    """Let a model's batch normalization be shared by all processes, under the same names.

    Args:
        model: its `BatchNorm2d` modules are replaced, their parameters and buffers kept.
        device: where it will run; torch's own `SyncBatchNorm` is used everywhere but on a CPU.
    """
    if device.type != "cpu":
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            shared = SharedBatchNorm2d(module.num_features, module.eps, module.momentum)
            shared.load_state_dict(module.state_dict())
            model.set_submodule(name, shared)

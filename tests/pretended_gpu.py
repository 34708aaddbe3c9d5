"""A GPU that is pretended: its tensors lie in the CPU's memory, but refuse to meet the CPU's own.

For machines without a GPU: it finds tensors that were left on the wrong device, which on a real GPU
end a job, often after minutes. It computes what the CPU computes, more slowly, and says nothing
about speed, memory or rounding. As a program it does one of JOBS so:

    python tests/pretended_gpu.py JOB DATA OUTPUT
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.data import DataLoader

GPU = torch.device("cuda", 0)
# Operators that may take tensors of both, as on a GPU.
BETWEEN = ("aten.copy_", "aten.index.Tensor", "aten.index_put_")


class GpuTensor(Tensor):
    """A tensor of the pretended GPU around one of the CPU, `inner`."""

    inner: Tensor
    device = property(lambda self: GPU)
    is_cuda = property(lambda self: True)

    @staticmethod
    def __new__(cls, inner: Tensor) -> GpuTensor:
        tensor = Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            dtype=inner.dtype,
            requires_grad=inner.requires_grad,
        )
        tensor.inner = inner.detach()
        return tensor

    @classmethod
    def __torch_dispatch__(
        cls, operator: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        here = {id(one.inner): one for one in tensors if isinstance(one, cls)}
        left = [tuple(one.shape) for one in tensors if not isinstance(one, cls) and one.dim()]
        if left and not (str(operator).startswith(BETWEEN) and isinstance(args[0], cls)):
            raise RuntimeError(f"Expected all tensors to be on the same device: {operator}, {left}")

        def into(leaf: Any) -> Any:
            return leaf.inner if isinstance(leaf, cls) else leaf

        def out(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            return here[id(leaf)] if id(leaf) in here else cls(leaf)

        named = {name: value for name, value in (kwargs or {}).items() if name != "device"}
        return tree_map(out, operator(*tree_map(into, args), **tree_map(into, named)))

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    __array__ = numpy

    def __deepcopy__(self, memo: dict) -> Tensor:
        copied = GpuTensor(self.inner.clone()).requires_grad_(self.requires_grad)
        is_parameter = isinstance(self, nn.Parameter)
        return memo.setdefault(id(self), nn.Parameter(copied) if is_parameter else copied)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.inner.__reduce_ex__(protocol)


class _Moved(torch.autograd.Function):
    """Between the two memories, with the gradient's way back."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        there = not isinstance(tensor, GpuTensor)
        return GpuTensor(tensor.clone()) if there else tensor.inner.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.inner if isinstance(gradient, GpuTensor) else GpuTensor(gradient)


class _Pretend(TorchFunctionMode):
    """Makes what is asked for on "cuda" there, and moves what is moved."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        named, name = dict(kwargs or {}), getattr(function, "__name__", "")
        wanted = named.get("device")
        if name in ("to", "cpu") and isinstance(args[0], Tensor):
            places = [arg for arg in args[1:] if isinstance(arg, str | torch.device)]
            places += [torch.device("cpu")] * (name == "cpu")
            rest = [arg for arg in args[1:] if isinstance(arg, torch.dtype)]
            wanted = torch.device(next(iter(places), named.pop("device", None) or args[0].device))
            named.pop("non_blocking", None)
            tensor = args[0].to(*rest, **named) if rest or named else args[0]
            stays = (wanted.type == "cuda") == isinstance(tensor, GpuTensor)
            return tensor if stays else _Moved.apply(tensor)
        if wanted is None or torch.device(wanted).type != "cuda":
            return function(*args, **named)
        made = function(*args, **{**named, "device": "cpu"})
        return made if isinstance(made, GpuTensor) else GpuTensor(made)


class _Event:
    def __init__(self, **_: Any) -> None:
        self.moment = 0.0

    def record(self) -> None:
        self.moment = time.perf_counter()

    def elapsed_time(self, other: _Event) -> float:
        return 1000 * (other.moment - self.moment)


@contextmanager
def pretended_gpu() -> Iterator[None]:
    """Let PyTorch find the pretended GPU, in this process until its end."""
    torch.__future__.set_swap_module_params_on_conversion(True)
    said = {
        **{"is_available": True, "is_initialized": True, "device_count": 1, "current_device": 0},
        **{"is_bf16_supported": True, "get_device_name": "pretended", "max_memory_allocated": 1},
        **{"get_device_capability": (9, 0), "get_rng_state_all": [], "get_rng_state": None},
    }
    done = ("synchronize", "empty_cache", "set_device", "manual_seed_all", "set_rng_state_all")
    for name, value in {**said, **dict.fromkeys((*done, "reset_peak_memory_stats"))}.items():
        setattr(torch.cuda, name, lambda *_, value=value, **__: value)
    torch.cuda.Event = _Event
    stream = SimpleNamespace(is_capturing=lambda: False)
    torch.accelerator.current_stream = lambda *_: stream
    autocast, loader = torch.autocast.__init__, DataLoader.__init__
    torch.autocast.__init__ = lambda self, device_type, *args, **kwargs: autocast(
        self, "cpu", *args, **kwargs
    )
    DataLoader.__init__ = lambda self, *args, **kwargs: loader(
        self, *args, **{**kwargs, "pin_memory": False}
    )
    with _Pretend():
        yield


def train(data: str, output: str) -> None:
    """A training in bfloat16 from a crop cache, in parts, with checkpoints, and its evaluation."""
    from hwl.evaluation.config import EvaluateConfig
    from hwl.evaluation.evaluate import evaluate_weights
    from hwl.training.config import TrainConfig
    from hwl.training.fit import fit

    size = {"input_height": 64, "input_width": 32, "data": data, "threads": 1}
    recipe = {"epochs": 1, "lr_drops": (), "batch_size": 2, "accumulate": 2, "train_limit": 4}
    recipe |= {"val_limit": 2, "checkpoint_steps": 1, "workers": 0, "warmup_steps": 1}
    fit(TrainConfig(output=output, crop_cache=f"{output}-crops", **size, **recipe))
    weights = f"{output}/last.safetensors"
    test = EvaluateConfig(output=f"{output}-test", weights=weights, workers=0, bootstrap=0, **size)
    evaluate_weights(test)


def speed(data: str, output: str) -> None:
    """The models' table of speed, from images to keypoints too."""
    from hwl.inference import timing
    from hwl.speed import comparison, end_to_end, peak
    from hwl.speed.config import SpeedConfig

    peak.MATRIX = {"cpu": 64, "cuda": 64}
    timing.BURST, end_to_end.WARM_UPS, end_to_end.PASSES = 0.0, 1, 1
    size = {"input_height": 64, "input_width": 32, "data": data, "split": "val2017"}
    few = {"models": ["ours"], "threads": [1], "batches": [2], "rounds": 1, "images": 2}
    few |= {"runtimes": ["eager", "fused", "fused-bf16"], "memory": False}
    found = comparison.compare_speed(SpeedConfig(output=output, **size, **few))
    assert set(found.end_to_end["device"]) == set(found.latencies["device"]) == {"cpu", "cuda"}


def bench(data: str, output: str) -> None:
    """A training step by part, and the data side."""
    from hwl.speed import data_rate, peak, training_rate
    from hwl.speed.config import DataRateConfig, TrainingRateConfig

    peak.MATRIX = {"cpu": 64, "cuda": 64}
    data_rate.WARM_UPS = training_rate.WARM_UPS = 0
    training_rate._listed_trainings = dict
    size = {"input_height": 64, "input_width": 32, "data": data, "batch_size": 2, "rounds": 1}
    size |= {"crop_cache": f"{output}-crops"}
    data_rate.bench_data(DataRateConfig(output=f"{output}-data", **size))
    training_rate.bench_train(TrainingRateConfig(output=output, threads=1, **size))


JOBS: dict[str, Callable[[str, str], None]] = {"train": train, "speed": speed, "bench": bench}

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    with pretended_gpu():
        JOBS[sys.argv[1]](*sys.argv[2:])

"""What all tests share: reference material, tiny data and training, one thread, steady runs."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import settings
from torch import nn

if TYPE_CHECKING:  # most tests do without what these import, which takes seconds
    from hwl.models import PoseNet
    from hwl.training.config import TrainConfig

# The tensors here are small, and two threads that wait for each other on a busy machine are slow.
torch.set_num_threads(1)
# Same examples at every run and no time limit on one: a busy machine must not fail a test.
settings.register_profile("hwl", derandomize=True, deadline=None, database=None)
settings.load_profile("hwl")

SLOW = 8  # seconds of a test marked `slow` that does not say how many


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest first, so that no worker is left alone with one at the end."""
    seconds: Counter[Path] = Counter()
    for item in items:
        for mark in item.iter_markers("slow"):
            seconds[item.path] += mark.args[0] if mark.args else SLOW
    items.sort(key=lambda item: -seconds[item.path])


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference outputs and images beside the repository; not part of it."""
    folder = Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip(f"needs the reference material in {folder}, which is not there")
    return folder


@pytest.fixture(scope="session")
def puppets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 8 images to train on and 3 to validate on, with simulated detections."""
    from hwl.puppets.config import PuppetConfig
    from hwl.puppets.dataset import make_puppets

    folder = tmp_path_factory.mktemp("data") / "puppets"
    return make_puppets(PuppetConfig(str(folder), train_images=8, val_images=3), processes=1)


@pytest.fixture(scope="session")
def ordinary() -> Callable[..., PoseNet]:
    """Makes models whose heatmaps are not as tiny as a fresh one's, and differ with the image."""
    from hwl.models import create_model

    def make(name: str = "ours", num_keypoints: int = 3, **options: object) -> PoseNet:
        torch.manual_seed(0)
        model = create_model(name, num_keypoints, **options)
        norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
        for module in model.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
        # Statistics of images, without which each layer's output is a third of its input.
        for norm in norms:
            norm.momentum = 1.0
        with torch.no_grad():
            model.train()(torch.randn(8, 3, 64, 64))
        for norm in norms:
            norm.momentum = 0.1
        return model.eval()

    return make


@pytest.fixture(scope="session")
def small_training(puppets: Path) -> Callable[..., TrainConfig]:
    """Makes configurations of a training of a second: 12 persons, 64x32 pixels, 2 x 3 steps."""
    from hwl.training.config import TrainConfig

    def make(output: Path, **changes: object) -> TrainConfig:
        small = {
            **{"data": str(puppets), "input_height": 64, "input_width": 32, "epochs": 2},
            **{"train_limit": 12, "val_limit": 3, "batch_size": 4},
            **{"lr": 1e-3, "warmup_steps": 2, "lr_drops": [1]},
            **{"evaluate_every": 2, "workers": 0, "threads": 1, "checkpoint_steps": 2},
        }
        return TrainConfig(output=str(output), **{**small, **changes})

    return make


@pytest.fixture(scope="session")
def trained(
    small_training: Callable[..., TrainConfig], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The run folder of a finished small training."""
    from hwl.training.fit import fit

    folder = tmp_path_factory.mktemp("runs") / "trained"
    fit(small_training(folder))
    return folder


@pytest.fixture(scope="session")
def forkserver() -> BaseContext:
    """Forks processes from one that has imported what trains: that takes seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["hwl.training.fit", "hwl.evaluation.evaluate"])
    return context


@pytest.fixture(scope="session")
def started(forkserver: BaseContext) -> Callable[..., BaseProcess]:
    """Starts a script in a process of its own, with names that it uses."""

    def start(script: str, **names: object) -> BaseProcess:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OMP_NUM_THREADS", "1")
            process = forkserver.Process(target=exec, args=(script, names))
            process.start()
        return process

    return start

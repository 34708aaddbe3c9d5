"""A training whose model is compiled: the same files, to go on from with or without a compiler."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from hwl.errors import HwlError
from hwl.inference.runtimes import has_compiler
from hwl.models import PoseNet
from hwl.training.config import TrainConfig
from hwl.training.fit import fit

MakeConfig = Callable[..., TrainConfig]


def tiny(name: str, num_keypoints: int) -> PoseNet:
    """A model that is compiled in seconds."""
    backbone = nn.Sequential(nn.Conv2d(3, 4, 4, stride=4, bias=False), nn.BatchNorm2d(4), nn.ReLU())
    return PoseNet(backbone, nn.Conv2d(4, num_keypoints, 1), {"name": name})


@pytest.mark.slow
@pytest.mark.skipif(not has_compiler("cpu"), reason="needs a C++ compiler")
def test_a_compiled_training_goes_on_uncompiled_to_the_weights_of_an_uncompiled_one(
    small_training: MakeConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("hwl.training.fit.create_model", tiny)
    fit(small_training(tmp_path / "eager", evaluate_every=1))
    torch._dynamo.utils.counters.clear()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("hwl.training.fit.TrainingState.show_on_board", interrupted)
        fit(small_training(tmp_path / "run", evaluate_every=1, compile=True))
    # That of the steps: the validation, which has been, is not compiled.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1

    fit(small_training(tmp_path / "run", evaluate_every=1))

    found, expected = (load_file(tmp_path / f"{run}/last.safetensors") for run in ("run", "eager"))
    assert found.keys() == expected.keys()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_missing_compiler_is_told(
    small_training: MakeConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with pytest.raises(HwlError, match=r"'compile' needs a C\+\+ compiler: install g\+\+ or leave"):
        fit(small_training(tmp_path / "run", compile=True))

"""One training in several processes: the same weights, and a process that is lost."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hwl.errors import HwlError
from hwl.training.checkpoints import load_checkpoint, save_checkpoint
from hwl.training.config import TrainConfig
from hwl.training.fit import fit
from hwl.training.processes import told_when_lost

MakeConfig = Callable[..., TrainConfig]
VAL_PERSONS = 5  # an odd number in images of one to three persons
MINUTE = 60  # seconds, in which the loss of a process ends the others

# In double precision, for in single precision Adam makes rounding errors grow to whole steps.
IN_DOUBLE_PRECISION = """
import os, torch
from hwl.training.fit import fit
os.environ.update(group)
torch.set_default_dtype(torch.float64)
torch.Tensor.float = torch.Tensor.double
fit(config)
"""
# The model knows the crops that it is shown, and answers with poses near the true ones.
VALIDATED = """
import os
from pathlib import Path
import numpy as np, torch
from accelerate import Accelerator
from hwl.codec import HeatmapCodec
from hwl.data.annotations import load_split
from hwl.data.crops import box_crop, keypoints_to_input, warp
from hwl.inference.predictor import Predictor
from hwl.models import Description, PoseNet
from hwl.training.processes import join_group
from hwl.training.validation import validate

os.environ.update(group)
join_group()
val = load_split(Path(config.data), config.val_split).first(config.val_limit)
boxes, persons, codec = val.ground_truth_boxes(), val.annotated(), HeatmapCodec((64, 32))
model = PoseNet(torch.nn.Identity(), torch.nn.Identity(), {})
model.describe(Description(skeleton=val.skeleton))
rng, known = np.random.default_rng(0), {}
for person, box in zip(persons, boxes.boxes, strict=True):
    crop = box_crop(box, codec.input_size)
    shown = torch.from_numpy(warp(val.read_image(val.image_index[person]), crop, codec.input_size))
    keypoints = keypoints_to_input(val.keypoints[person], crop, codec.input_size, val.skeleton)
    near = keypoints[:, :2] + rng.normal(0, 2, (17, 2)) * rng.random()
    heatmaps = codec.encode(near, np.ones(17))[0] * rng.random()
    known[model.preprocess(shown).numpy().tobytes()] = torch.from_numpy(heatmaps)


def answer(crops):
    return torch.stack([known[crop.numpy().tobytes()] for crop in crops])


predictor = Predictor(model=model, prepared=answer, codec=codec, flip=False, batch_size=2)
found = validate(predictor, val, boxes, config, Accelerator())
torch.save(found, f"{config.output}-{os.environ.get('RANK', 0)}")
"""
# Tells its number, so that a test can end a process of its choice.
TRAIN = """
import os, sys
from hwl import cli
print("process", os.environ["RANK"], os.getpid(), flush=True)
sys.argv[1:1] = ["train"]
cli.main()
"""


def groups(processes: int) -> list[dict[str, str]]:
    """What the launcher tells each process of a group of so many."""
    if processes == 1:
        return [{}]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    same = {"WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    numbered = [{"RANK": rank, "LOCAL_RANK": rank, **same} for rank in range(processes)]
    return [{name: str(value) for name, value in group.items()} for group in numbered]


@pytest.mark.slow(15)
def test_two_processes_with_half_the_batch_each_give_the_weights_of_one(
    started: Callable[..., BaseProcess], small_training: MakeConfig, tmp_path: Path
) -> None:
    recipe = {
        **{"input_width": 64, "train_limit": 15, "lr": 3e-4, "lr_drops": []},
        "sync_batch_norm": True,
    }
    weights = []
    for processes, batch_size in ((1, 8), (2, 4)):
        config = small_training(tmp_path / f"{processes}", batch_size=batch_size, **recipe)
        script = IN_DOUBLE_PRECISION
        members = [started(script, config=config, group=group) for group in groups(processes)]
        for member in members:
            member.join()
        assert [member.exitcode for member in members] == [0] * processes
        weights.append(load_file(tmp_path / f"{processes}/last.safetensors"))

    assert weights[0]["backbone.conv1.bn.num_batches_tracked"] == 4
    torch.testing.assert_close(weights[1], weights[0], rtol=0, atol=1e-6)


@pytest.mark.slow(15)
def test_two_processes_share_a_validation_and_find_the_numbers_of_one(
    started: Callable[..., BaseProcess], small_training: MakeConfig, tmp_path: Path
) -> None:
    found = {}
    for processes in (1, 2):
        config = small_training(tmp_path / f"{processes}", val_limit=VAL_PERSONS)
        members = [started(VALIDATED, config=config, group=group) for group in groups(processes)]
        for member in members:
            member.join()
        assert [member.exitcode for member in members] == [0] * processes
        found[processes] = [torch.load(f"{config.output}-{rank}") for rank in range(processes)]

    ((metrics, protocol),) = found[1]
    assert 0.2 < metrics["AP"] < 0.8 and f", {VAL_PERSONS} boxes, " in protocol
    assert found[2] == [(metrics, protocol)] * 2


@pytest.mark.slow(45)
def test_a_lost_process_ends_the_others_and_as_many_go_on_as_from_a_notebook(
    puppets: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    recipe = {
        **{"output": str(tmp_path / "run"), "data": str(puppets), "input_height": 64},
        **{"input_width": 32, "epochs": 5, "train_limit": 12, "val_limit": 3, "batch_size": 2},
        **{"evaluate_every": 5, "workers": 0, "threads": 1, "checkpoint_steps": 2},
    }
    checkpoint = tmp_path / "run.partial/checkpoint.pt"
    script = tmp_path / "script.py"
    script.write_text(TRAIN)
    options = [f"--{name.replace('_', '-')}={value}" for name, value in recipe.items()]
    run = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", script, *options],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    numbers = dict(run.stdout.readline().split()[1:] for _ in range(2))
    while not checkpoint.exists():
        assert run.poll() is None, run.stderr.read()
        time.sleep(0.1)
    os.kill(int(numbers["1"]), signal.SIGKILL)
    killed = time.monotonic()
    _, errors = run.communicate()

    assert time.monotonic() - killed < MINUTE
    assert run.returncode != 0
    # The launcher writes to the same place at the same time, at times into the line's end.
    told = "hwl: one of the 2 processes of this training is lost; start it again to go on from "
    assert errors.count("hwl: ") == errors.count(f"{told}{checkpoint}") == 1
    begun = load_checkpoint(checkpoint)
    assert begun["processes"] == 2
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    history = fit(TrainConfig(**recipe, processes=2))

    assert f"step {begun['position'][0]}\n" in capfd.readouterr().out
    assert [record["steps"] for record in history] == list(range(3, 16, 3))
    assert (tmp_path / "run/best.safetensors").exists()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_a_run_begun_with_another_number_of_processes_is_refused(
    small_training: MakeConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = small_training(tmp_path / "run")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("hwl.training.fit.validate", raises(KeyboardInterrupt()))
        fit(config)
    checkpoint = tmp_path / "run.partial/checkpoint.pt"
    save_checkpoint(checkpoint, {**load_checkpoint(checkpoint), "processes": 2})

    with pytest.raises(HwlError, match=r"begun with 2 process\(es\), not 1: .* 4 persons .* of 8"):
        fit(config)


def raises(error: BaseException) -> Callable[..., None]:
    def function(*_: object) -> None:
        raise error

    return function


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:544] Connection closed"),
        torch.distributed.DistBackendError("NCCL communicator was aborted"),
    ],
)
def test_a_broken_connection_is_told_in_a_line(error: RuntimeError) -> None:
    with (
        pytest.raises(HwlError, match=r"one of the 2 processes .* is lost; start it again"),
        told_when_lost(2, lambda: "start it again"),
    ):
        raise error


def test_other_errors_are_left_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes differ"), told_when_lost(2, str):
        raise RuntimeError("shapes differ")


def test_being_ended_by_the_launcher_is_told_in_a_line() -> None:
    before = signal.getsignal(signal.SIGTERM)

    with pytest.raises(HwlError, match="is lost"), told_when_lost(2, str):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)

    assert signal.getsignal(signal.SIGTERM) == before

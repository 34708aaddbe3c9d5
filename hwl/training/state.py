"""A training's state: what a killed run needs to go on."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from hwl.data.annotations import Annotations
from hwl.errors import HwlError
from hwl.files import told_when_full, write_json, write_table
from hwl.models import PoseNet, save_weights
from hwl.models.description import description_from_dict
from hwl.runs.folder import CHECKPOINT
from hwl.runs.provenance import LOADED, fingerprint, provenance
from hwl.training.checkpoints import load_checkpoint, save_checkpoint
from hwl.training.config import TrainConfig, differing
from hwl.training.finished import HISTORY, WEIGHTS

CHECK_STEPS = 50  # steps between looks at the loss, each of which waits for the device
# What a checkpoint holds.
PARTS = {"config", "inputs", "model", "optimizer", "scaler", "random"}
PARTS |= {"position", "seconds", "processes", "precision", "codes", "history", "best"}
WEIGHTS_FOLDER = "weights"  # where `keep_weights` keeps them


class TrainingState:
    """What a killed run needs to go on: weights, optimizer, random state, position, history.

    Args:
        config: the recipe.
        accelerator: what moves the model and the batches to their devices.
        model: the one that is trained, without what the accelerator wraps around it.
        optimizer: of its parameters.
        folder: the run's partial folder.
        inputs: fingerprints of the data.
    """

    def __init__(
        self,
        config: TrainConfig,
        accelerator: Accelerator,
        model: PoseNet,
        optimizer: torch.optim.Optimizer,
        folder: Path,
        inputs: Mapping[str, str],
    ) -> None:
        self.config = config
        self.inputs = dict(inputs)
        self.accelerator = accelerator
        self.model = model
        self.optimizer = optimizer
        self.folder = folder
        self.checkpoint = folder / CHECKPOINT
        self.step = 0  # over all epochs
        self.epoch = 0  # finished epochs
        self.epoch_step = 0  # steps done in the current epoch
        # Of the current epoch's steps; on the device, so that a step need not wait for it.
        exact = torch.float32 if accelerator.device.type == "mps" else torch.float64
        self.loss_sum = torch.zeros((), dtype=exact, device=accelerator.device)
        self.seconds = 0.0  # that killed processes spent on the current epoch
        self.began = 0.0  # when the epoch began by `time.perf_counter`, were it all of this process
        self.codes = [LOADED["code"]]  # fingerprints of the code that did the steps, by time
        self.history: list[dict[str, float]] = []
        self.best: dict[str, float] = {}

    def count(self, loss: torch.Tensor) -> None:
        """Add a step and its loss, a scalar on the device."""
        self.loss_sum += loss
        self.step += 1
        self.epoch_step += 1
        if self.step % CHECK_STEPS == 0:
            self._total_loss()

    def begin_epoch(self) -> None:
        """Time an epoch from here, or what is left of one that a killed process had begun."""
        self.began = time.perf_counter() - self.seconds

    def close_epoch(self, lr: float) -> dict[str, float]:
        """Add the epoch's row to the history.

        Args:
            lr: of the last step.
        """
        loss = self._total_loss() / self.epoch_step  # which waits for a GPU
        seconds = time.perf_counter() - self.began
        self.epoch += 1
        record = {
            "epoch": self.epoch,
            "steps": self.step,
            "lr": lr,
            "loss": loss,
            "seconds": round(seconds, 2),
        }
        self.epoch_step, self.seconds = 0, 0.0
        self.loss_sum.zero_()
        self.history.append(record)
        return record

    def _total_loss(self) -> float:
        """The sum of the epoch's losses so far, the mean of all processes'."""
        total = self.accelerator.reduce(self.loss_sum, "mean").item()
        if math.isnan(total):
            raise HwlError(
                f"the loss is NaN at step {self.step} (epoch {self.epoch + 1}) or shortly before; "
                f"lower lr, which is {self.config.lr}, or use precision 'no'"
            )
        return total

    def keep_if_best(
        self, record: dict[str, float], metrics: dict[str, float], protocol: str
    ) -> None:
        """Let the weights tell what they reached, and write them if they are the best so far."""
        metric = self.config.metric
        if math.isnan(record[metric]):
            raise HwlError(
                f"{metric} is undefined after epoch {self.epoch}; the weights may have diverged: "
                f"lower lr, which is {self.config.lr}"
            )
        if self.model.description is not None:
            told = dataclasses.replace(self.model.description, metrics=metrics, protocol=protocol)
            self.model.describe(told)
        if record[metric] > self.best.get(metric, -1.0):
            self.best = record
            if self.accelerator.is_main_process:
                with self._told_when_full():
                    save_weights(self.model, self.folder / "best.safetensors")

    def show_on_board(self, record: dict[str, float]) -> None:
        """Add an epoch's numbers to TensorBoard, where that is installed."""
        if self.accelerator.is_main_process and importlib.util.find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            with SummaryWriter(self.folder / "tensorboard") as board:
                for name, value in record.items():
                    board.add_scalar(name, value, record["epoch"])

    def save(self) -> None:
        """Write the checkpoint and the history so far; every process calls this."""
        loss = self._total_loss()
        if not self.accelerator.is_main_process:
            return
        if self.config.keep_weights:
            kept = self.folder / WEIGHTS_FOLDER / f"step-{self.step:06d}.safetensors"
            with self._told_when_full():
                save_weights(self.model, kept)
        scaler = self.accelerator.scaler
        description = self.model.description
        state = {
            "config": dataclasses.asdict(self.config),
            "inputs": self.inputs,
            "model": self.model.state_dict(),
            "description": description.to_dict() if description else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": scaler.state_dict() if scaler else None,
            "random": torch.get_rng_state(),
            "position": [self.step, self.epoch, self.epoch_step, loss],
            "seconds": time.perf_counter() - self.began if self.epoch_step else 0.0,
            "processes": self.accelerator.num_processes,
            "precision": self.accelerator.mixed_precision,
            "codes": self.codes,
            "history": self.history,
            "best": self.best,
        }
        with self._told_when_full():
            save_checkpoint(self.checkpoint, state)
            if self.history:
                self._write_history()

    def resume(self) -> None:
        """Go on from the checkpoint, where there is one."""
        if not self.checkpoint.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            return
        state = load_checkpoint(self.checkpoint)
        self._check_begun(state)
        self._check_processes(state["processes"])
        self._check_precision(state["precision"])
        self.model.load_state_dict(state["model"])
        if state["description"]:
            self.model.describe(description_from_dict(state["description"], self.checkpoint))
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"])
        self.step, self.epoch, self.epoch_step, loss = state["position"]
        self.loss_sum.fill_(loss)
        self.seconds = state["seconds"]
        self.history, self.best = state["history"], state["best"]
        self.codes = state["codes"]
        if LOADED["code"] not in self.codes:
            self.codes.append(LOADED["code"])
            self.accelerator.print("the code has changed since this run was begun; run.json tells")
        self.accelerator.print(
            f"going on from {self.checkpoint}: epoch {self.epoch}, step {self.step}"
        )

    def _check_processes(self, begun: int) -> None:
        """Another number of processes would take other batches."""
        processes = self.accelerator.num_processes
        if begun != processes:
            raise HwlError(
                f"{self.folder} holds a run begun with {begun} process(es), not {processes}: a "
                f"step would see {self.config.batch_size * processes} persons instead of "
                f"{self.config.batch_size * begun}; go on with {begun}, choose another output or "
                "delete the folder"
            )

    def _check_precision(self, begun: str) -> None:
        """What "auto" was on the device that the run was begun on may be another one here."""
        precision = self.accelerator.mixed_precision
        if begun != precision:
            raise HwlError(
                f"{self.folder} holds a run begun in precision '{begun}', and here it is "
                f"'{precision}'; go on with a device like that, choose another output or delete "
                "the folder"
            )

    def how_to_go_on(self) -> str:
        """What to do after the run was ended from outside."""
        if self.checkpoint.exists():
            return f"start it again to go on from {self.checkpoint}"
        return "start it again; there is no checkpoint yet"

    def _check_begun(self, state: Mapping[str, Any]) -> None:
        """HwlError unless a checkpoint is of this recipe on these data."""
        remedy = "choose another output or delete the folder"
        if not state.keys() >= PARTS:
            raise HwlError(f"{self.checkpoint} is no checkpoint of this version; {remedy}")
        for name, begun in differing(dataclasses.asdict(self.config), state["config"]).items():
            raise HwlError(
                f"{self.folder} holds a run begun with {name}={begun!r}, not "
                f"{getattr(self.config, name)!r}; go on with that value, {remedy}"
            )
        for name, begun in state["inputs"].items():
            if self.inputs.get(name) != begun:
                raise HwlError(
                    f"{self.folder} holds a run begun with other data: {name} was {begun} and is "
                    f"{self.inputs.get(name)}; bring the old data back, {remedy}"
                )

    def finish(self, train: Annotations, val: Annotations) -> None:
        """Write what the run leaves."""
        with self._told_when_full():
            save_weights(self.model, self.folder / "last.safetensors")
            self._write_history()
            write_json(self.folder / "metrics.json", self.best)
            run = provenance(self.config, {}) | {
                "inputs": self.inputs,
                "processes": self.accelerator.num_processes,
                "precision": self.accelerator.mixed_precision,
                "codes": self.codes,
                "persons": {"train": len(train.annotated()), "val": len(val.annotated())},
                "weights": {name: fingerprint(self.folder / name) for name in WEIGHTS},
            }
            write_json(self.folder / "run.json", run)

    def _told_when_full(self) -> AbstractContextManager[None]:
        return told_when_full(
            f"what is in {self.folder} is kept: make room, and this training goes on from there"
        )

    def _write_history(self) -> None:
        columns = list(dict.fromkeys(key for record in self.history for key in record))
        rows = [{column: record.get(column, "") for column in columns} for record in self.history]
        write_table(self.folder / HISTORY, rows)

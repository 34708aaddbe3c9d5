"""Training: `fit(config)`, the paper's recipe as default, resumable to the bit on a CPU."""

from __future__ import annotations

import dataclasses
import importlib.util
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader

from hwl import results
from hwl.allocator import keep_freed_memory
from hwl.checkpoints import load_checkpoint, save_checkpoint
from hwl.codec import HeatmapCodec
from hwl.data.annotations import Annotations, load_split
from hwl.data.dataset import EpochSampler, PersonDataset, Sample, single_threaded_opencv
from hwl.data.transforms import Augmentation, normalise
from hwl.errors import HwlError
from hwl.evaluation import METRICS, evaluate
from hwl.losses import HeatmapWeightingLoss
from hwl.models import PoseNet, create_model, load_weights, save_weights
from hwl.progress import progress


@dataclass(frozen=True)
class TrainConfig:
    """A training run; the defaults are the paper's recipe at 256x192."""

    output: str  # the run's folder
    data: str  # folder in COCO's layout
    train_split: str = "train2017"  # annotations/person_keypoints_<split>.json
    val_split: str = "val2017"  # likewise; its own boxes are used, with flip test
    train_limit: int = 0  # use the first so many persons (0: all)
    val_limit: int = 0  # likewise
    metric: str = "AP"  # AP (COCO), PCK (LSP) or PCKh (MPII): which value is best
    model: str = "ours"  # name for hwl.models.create_model
    model_options: dict = field(default_factory=dict)  # its options, such as {"head": "dense"}
    init_weights: str = ""  # checkpoint to start from (empty: random weights)
    weight_function: str = "identity"  # F of the loss; "zero" is plain MSE
    input_height: int = 256  # pixels
    input_width: int = 192  # pixels
    sigma: float = 2.0  # of the target Gaussian, heatmap cells
    epochs: int = 210
    batch_size: int = 64  # persons a step on each device
    lr: float = 5e-4  # Adam's learning rate
    warmup_steps: int = 500  # linear warm-up from 0.001 lr
    lr_drops: list[int] = field(default_factory=lambda: [170, 200])  # epochs after which lr / 10
    evaluate_every: int = 10  # epochs; the last epoch is always evaluated
    augment: bool = True  # the paper's augmentation; False: plain crops
    half_body: float = 0.3  # probability; the authors use 0 on MPII
    seed: int = 0
    precision: str = "auto"  # no, fp16, bf16, or auto: bf16 on a GPU that has it, else no
    workers: int = 2  # data-loading processes on each device
    threads: int = 0  # CPU threads of torch (0: its default)
    checkpoint_steps: int = 500  # steps between checkpoints inside an epoch


WARMUP_FACTOR = 0.001
DROP_FACTOR = 0.1
# Changing these does not change what a run computes, so a killed run may go on with other values.
MACHINE_FIELDS = ("output", "workers", "threads", "checkpoint_steps")


def learning_rate(config: TrainConfig, step: int, epoch: int) -> float:
    """The rate at a step (counted from 0 over all epochs) of an epoch (counted from 0)."""
    warmup = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    factor = WARMUP_FACTOR + (1 - WARMUP_FACTOR) * warmup
    drops = sum(epoch >= drop for drop in config.lr_drops)
    return config.lr * factor * DROP_FACTOR**drops


def fit(config: TrainConfig) -> list[dict[str, float]]:
    """Train a network and leave a run folder with its best and last weights.

    The folder holds `best.safetensors`, `last.safetensors`, `history.csv` (one row an epoch),
    `metrics.json` (the best epoch's numbers), `run.json` (provenance) and, where TensorBoard is
    installed, `tensorboard/`. It is built as
    `<output>.partial` and renamed at the end; calling `fit` again after a kill goes on from the
    last checkpoint there, bit for bit on a CPU. Runs on one device, or on all that
    `accelerate launch` or `torchrun` gives.

    Returns:
        The history: for each epoch its number, steps, learning rate, mean loss, seconds and, where
        evaluated, the metrics.

    Raises:
        HwlError: bad configuration or data, or a partial run with another configuration.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    keep_freed_memory()
    data = Path(config.data)
    _check(config)
    train = load_split(data, config.train_split).first(config.train_limit)
    val = load_split(data, config.val_split).first(config.val_limit)
    if val.skeleton.joints != train.skeleton.joints:
        raise HwlError(f"{val.path} has other joints than {train.path}")
    val.labelled()  # raises where there is none: now, not after the first epochs
    codec = HeatmapCodec((config.input_height, config.input_width), config.sigma)

    accelerator = Accelerator(mixed_precision=_precision(config.precision))
    set_seed(config.seed)
    model = create_model(config.model, len(train.skeleton), **config.model_options)
    if config.init_weights:
        load_weights(model, config.init_weights)
    loss_function = HeatmapWeightingLoss(config.weight_function)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr)
    sampler, loader = _loader(config, train, codec)
    model = model.to(memory_format=torch.channels_last)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

    folder = results.partial_folder(Path(config.output))
    run = _Run(config, accelerator, accelerator.unwrap_model(model), optimizer, folder)
    run.resume()
    steps_per_epoch = len(loader)
    while run.epoch < config.epochs:
        started = time.perf_counter()
        model.train()
        sampler.epoch = run.epoch
        sampler.start = run.epoch_step * config.batch_size * accelerator.num_processes
        batches = progress(loader, f"epoch {run.epoch + 1}/{config.epochs}", total=len(loader))
        for batch in batches:
            lr = learning_rate(config, run.step, run.epoch)
            for group in optimizer.param_groups:
                group["lr"] = lr
            crops = normalise(batch.crop).contiguous(memory_format=torch.channels_last)
            loss = loss_function(model(crops), batch.target, batch.weight)
            optimizer.zero_grad()
            accelerator.backward(loss)
            optimizer.step()
            run.count(loss)
            if run.epoch_step % config.checkpoint_steps == 0 and run.epoch_step < steps_per_epoch:
                run.save()
        record = run.close_epoch(lr, time.perf_counter() - started)
        if run.epoch % config.evaluate_every == 0 or run.epoch == config.epochs:
            if accelerator.is_main_process:
                boxes = val.ground_truth_boxes()
                record |= evaluate(
                    run.model.eval(),
                    *(val, boxes, codec, config.metric),
                    batch_size=config.batch_size,
                    workers=config.workers,
                    device=accelerator.device,
                ).metrics
                run.keep_if_best(record)
            accelerator.wait_for_everyone()
        accelerator.print(_line(record, config), flush=True)
        run.show_on_board(record)
        run.save()
    if accelerator.is_main_process:
        run.finish(train, val)
    accelerator.wait_for_everyone()
    return run.history


def first_samples(config: TrainConfig, count: int) -> list[Sample]:
    """The first samples that a run of this configuration learns from, to look at."""
    train = load_split(Path(config.data), config.train_split).first(config.train_limit)
    codec = HeatmapCodec((config.input_height, config.input_width), config.sigma)
    dataset = _dataset(config, train, codec)
    return [dataset[0, index] for index in range(min(count, len(dataset)))]


def _check(config: TrainConfig) -> None:
    if config.metric not in METRICS:
        raise HwlError(f"parameter 'metric': '{config.metric}' is not one of {', '.join(METRICS)}")
    for name in ("epochs", "batch_size", "lr", "evaluate_every", "checkpoint_steps"):
        if getattr(config, name) <= 0:
            raise HwlError(f"parameter '{name}' is {getattr(config, name)}: it must be positive")


def _precision(wanted: str) -> str:
    if wanted not in ("auto", "no", "fp16", "bf16"):
        raise HwlError(f"parameter 'precision': '{wanted}' is not one of auto, no, fp16, bf16")
    if wanted != "auto":
        return wanted
    # On a CPU bfloat16 trains this network slower than float32.
    return "bf16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "no"


def _dataset(config: TrainConfig, train: Annotations, codec: HeatmapCodec) -> PersonDataset:
    how = Augmentation(half_body=config.half_body) if config.augment else None
    return PersonDataset(train, codec, how, config.seed)


def _loader(
    config: TrainConfig, train: Annotations, codec: HeatmapCodec
) -> tuple[EpochSampler, DataLoader]:
    dataset = _dataset(config, train, codec)
    sampler = EpochSampler(len(dataset), config.seed)
    loader = DataLoader(
        dataset,
        batch_size=config.batch_size,
        sampler=sampler,
        num_workers=config.workers,
        persistent_workers=config.workers > 0,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=single_threaded_opencv,
    )
    return sampler, loader


def _line(record: dict[str, float], config: TrainConfig) -> str:
    metric = f"  {config.metric} {record[config.metric]:.3f}" if config.metric in record else ""
    return (
        f"epoch {record['epoch']:>3}/{config.epochs}  loss {record['loss']:.6f}  "
        f"lr {record['lr']:.1e}  {record['seconds']:.0f} s{metric}"
    )


class _Run:
    """What a killed run needs to go on: weights, optimiser, random state, position, history."""

    def __init__(
        self,
        config: TrainConfig,
        accelerator: Accelerator,
        model: PoseNet,
        optimizer: torch.optim.Optimizer,
        folder: Path,
    ) -> None:
        self.config = config
        self.accelerator = accelerator
        self.model = model
        self.optimizer = optimizer
        self.folder = folder
        self.checkpoint = folder / "checkpoint.pt"
        self.step = 0  # over all epochs
        self.epoch = 0  # finished epochs
        self.epoch_step = 0  # steps done in the current epoch
        self.loss_sum = 0.0  # of the current epoch's steps
        self.history: list[dict[str, float]] = []
        self.best: dict[str, float] = {}

    def count(self, loss: torch.Tensor) -> None:
        value = loss.item()
        if value != value:
            raise HwlError(
                f"the loss is NaN at step {self.step} (epoch {self.epoch + 1}); lower lr, which is "
                f"{self.config.lr}, or use precision 'no'"
            )
        self.loss_sum += value
        self.step += 1
        self.epoch_step += 1

    def close_epoch(self, lr: float, seconds: float) -> dict[str, float]:
        self.epoch += 1
        record = {
            "epoch": self.epoch,
            "steps": self.step,
            "lr": lr,
            "loss": self.loss_sum / self.epoch_step,
            "seconds": round(seconds, 2),
        }
        self.epoch_step, self.loss_sum = 0, 0.0
        self.history.append(record)
        return record

    def keep_if_best(self, record: dict[str, float]) -> None:
        metric = self.config.metric
        if record[metric] > self.best.get(metric, -1.0):
            self.best = record
            if self.accelerator.is_main_process:
                save_weights(self.model, self.folder / "best.safetensors")

    def show_on_board(self, record: dict[str, float]) -> None:
        """Add an epoch's numbers to TensorBoard, where that is installed."""
        if self.accelerator.is_main_process and importlib.util.find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            with SummaryWriter(self.folder / "tensorboard") as board:
                for name, value in record.items():
                    board.add_scalar(name, value, record["epoch"])

    def save(self) -> None:
        """Write the checkpoint and the history so far."""
        if not self.accelerator.is_main_process:
            return
        scaler = self.accelerator.scaler
        save_checkpoint(
            self.checkpoint,
            {
                "config": dataclasses.asdict(self.config),
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scaler": scaler.state_dict() if scaler else None,
                "random": torch.get_rng_state(),
                "position": [self.step, self.epoch, self.epoch_step, self.loss_sum],
                "history": self.history,
                "best": self.best,
            },
        )
        if self.history:
            self._write_history()

    def resume(self) -> None:
        """Go on from the checkpoint, where there is one."""
        if not self.checkpoint.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            return
        state = load_checkpoint(self.checkpoint)
        for name, value in dataclasses.asdict(self.config).items():
            begun = state["config"].get(name)
            if name not in MACHINE_FIELDS and begun != value:
                raise HwlError(
                    f"{self.folder} holds a run begun with {name}={begun!r}, not {value!r}; go on "
                    "with that value, choose another output or delete the folder"
                )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"])
        self.step, self.epoch, self.epoch_step, self.loss_sum = state["position"]
        self.history, self.best = state["history"], state["best"]
        self.accelerator.print(
            f"going on from {self.checkpoint}: epoch {self.epoch}, step {self.step}"
        )

    def finish(self, train: Annotations, val: Annotations) -> None:
        """Write what the run leaves and publish its folder."""
        save_weights(self.model, self.folder / "last.safetensors")
        self._write_history()
        results.write_json(self.folder / "metrics.json", self.best)
        inputs = {"train": train.path, "val": val.path}
        run = results.provenance(self.config, inputs) | {
            "persons": {"train": len(train.labelled()), "val": len(val.labelled())}
        }
        results.write_json(self.folder / "run.json", run)
        results.publish(Path(self.config.output))
        # Last, so that a kill before it costs nothing.
        Path(self.config.output, self.checkpoint.name).unlink()

    def _write_history(self) -> None:
        columns = list(dict.fromkeys(key for record in self.history for key in record))
        rows = [{column: record.get(column, "") for column in columns} for record in self.history]
        results.write_table(self.folder / "history.csv", rows)

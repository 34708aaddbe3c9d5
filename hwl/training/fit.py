"""Training: `fit(config)`, the paper's recipe as default, resumable to the bit on a CPU."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import set_seed
from torch.utils.data import DataLoader

from hwl.allocator import keep_freed_memory
from hwl.codec import HeatmapCodec
from hwl.data.annotations import Annotations, Boxes, load_detections, load_split
from hwl.data.crops import Augmentation, normalize
from hwl.data.dataset import EpochSampler, PersonDataset, Sample, single_threaded_opencv
from hwl.data.loading import delivered
from hwl.errors import HwlError
from hwl.evaluation.evaluate import evaluate
from hwl.evaluation.pck import check_metric
from hwl.losses import HeatmapWeightingLoss
from hwl.models import create_model, load_weights
from hwl.models.zoo import check_model
from hwl.progress import progress
from hwl.runs.folder import RunFolder
from hwl.training.config import TrainConfig
from hwl.training.state import TrainingState

WARMUP_FACTOR = 0.001
DROP_FACTOR = 0.1


def learning_rate(config: TrainConfig, step: int, epoch: int) -> float:
    """The rate at a step (counted from 0 over all epochs) of an epoch (counted from 0)."""
    warmup = min(1.0, step / config.warmup_steps) if config.warmup_steps else 1.0
    factor = WARMUP_FACTOR + (1 - WARMUP_FACTOR) * warmup
    drops = sum(epoch >= drop for drop in config.lr_drops)
    return config.lr * factor * DROP_FACTOR**drops


def fit(config: TrainConfig) -> list[dict[str, float]]:
    """Train a model and leave a run folder with its best and last weights.

    The folder is built as `<output>.partial` and renamed at the end; calling `fit` again after a
    kill goes on from the last checkpoint there, bit for bit on a CPU. Runs on one device, or on all
    that `accelerate launch` or `torchrun` gives.

    Returns:
        The history, as `train`.

    Raises:
        HwlError: as `train`, or an output that this run may not have.
    """
    run, processes = RunFolder.of(config), PartialState()
    if processes.is_main_process:
        run.begin()
    try:
        history = train(config, run.path)
        if processes.is_main_process:
            run.publish()
    finally:
        run.close()
    processes.wait_for_everyone()
    return history


def train(config: TrainConfig, folder: Path) -> list[dict[str, float]]:
    """Train a model in a run's partial folder, or go on with what was begun there.

    It leaves `best.safetensors`, `last.safetensors`, `history.csv` (one row an epoch),
    `metrics.json` (the best epoch's numbers), `run.json` (provenance), the checkpoint and, where
    TensorBoard is installed, `tensorboard/`.

    Args:
        config: the recipe.
        folder: where to train, in place of `config.output`.

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
    # What needs no data is refused before they are read.
    precision = _precision(config.precision)
    loss_function = HeatmapWeightingLoss(config.weight_function)
    check_model(config.model, config.model_options)
    train = load_split(data, config.train_split).first(config.train_limit)
    val = load_split(data, config.val_split).first(config.val_limit)
    if val.skeleton.keypoints != train.skeleton.keypoints:
        raise HwlError(f"{val.path} has other keypoints than {train.path}")
    boxes = _val_boxes(config, val)
    codec = HeatmapCodec((config.input_height, config.input_width), config.sigma)

    accelerator = Accelerator(mixed_precision=precision)
    set_seed(config.seed)
    model = create_model(config.model, len(train.skeleton), **config.model_options)
    if config.init_weights:
        load_weights(model, config.init_weights)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr)
    sampler, loader = _loader(config, train, codec)
    model = model.to(memory_format=torch.channels_last)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

    run = TrainingState(config, accelerator, accelerator.unwrap_model(model), optimizer, folder)
    run.resume()
    steps_per_epoch = len(loader)
    while run.epoch < config.epochs:
        started = time.perf_counter()
        model.train()
        sampler.epoch = run.epoch
        sampler.start = run.epoch_step * config.batch_size * accelerator.num_processes
        batches = progress(
            delivered(loader), f"epoch {run.epoch + 1}/{config.epochs}", total=len(loader)
        )
        for batch in batches:
            lr = learning_rate(config, run.step, run.epoch)
            for group in optimizer.param_groups:
                group["lr"] = lr
            crops = normalize(batch.crop).contiguous(memory_format=torch.channels_last)
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


def _val_boxes(config: TrainConfig, val: Annotations) -> Boxes:
    """Where the validation split is predicted in, read before the first epoch."""
    check_metric(val, config.metric)
    truth = val.ground_truth_boxes()
    if not config.detections:
        return truth
    if config.val_limit or config.metric != "AP":
        raise HwlError(
            f"parameter 'detections': detected boxes need val_limit 0, not {config.val_limit}, and "
            f"metric AP, not {config.metric}; leave them out"
        )
    return load_detections(Path(config.detections), val)


def _precision(wanted: str) -> str:
    if wanted == "fp16" and not torch.cuda.is_available():
        raise HwlError("parameter 'precision' is 'fp16', which needs a GPU: use 'no' or 'auto'")
    if wanted != "auto":
        return wanted
    # On a CPU bfloat16 trains this model slower than float32.
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

"""Training: `fit(config)`, the paper's recipe as default, resumable to the bit on a CPU."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from torch import Tensor
from torch.utils.data import DataLoader

from hwl.allocator import keep_freed_memory
from hwl.codec import HeatmapCodec
from hwl.data.annotations import Annotations, Boxes, load_detections, load_split
from hwl.data.batch_source import BatchSource
from hwl.data.batches import EpochBatches
from hwl.data.cached import Batch, samples_on
from hwl.data.crops import Augmentation
from hwl.data.dataset import PersonDataset, Sample
from hwl.data.loading import delivered, in_workers
from hwl.errors import HwlError
from hwl.evaluation.pck import check_metric
from hwl.inference.predictor import Predictor
from hwl.inference.runtimes import has_compiler
from hwl.losses import HeatmapWeightingLoss
from hwl.models import Description, PoseNet, create_model, load_weights
from hwl.models.published import fetch_weights
from hwl.models.zoo import check_model
from hwl.processor import gpu_has_bfloat16
from hwl.progress import progress
from hwl.runs.folder import RunFolder
from hwl.runs.gpus import check_gpus_are_found
from hwl.runs.provenance import fingerprints
from hwl.skeletons import MPII, Skeleton
from hwl.training.batch_norm import share_batch_norm
from hwl.training.config import TrainConfig
from hwl.training.finished import read_history, take_over
from hwl.training.processes import join_group, launched, spread, told_when_lost
from hwl.training.profiling import profiled
from hwl.training.state import TrainingState
from hwl.training.validation import validate

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
    kill goes on from the last checkpoint there, bit for bit on a CPU. Runs on one device, or in as
    many processes as `config.processes`, `accelerate launch` or `torchrun` starts.

    Returns:
        The history, as `train`.

    Raises:
        HwlError: as `train`, or an output that this run may not have.
    """
    run, processes = RunFolder.of(config), join_group()
    if processes.is_main_process:
        run.begin()
    processes.wait_for_everyone()
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
    TensorBoard is installed, `tensorboard/`. A finished training of the same configuration, data
    and code, there or published, is taken over.

    Args:
        config: the recipe.
        folder: where to train, in place of `config.output`.

    Returns:
        The history: for each epoch its number, steps, learning rate, mean loss, seconds and, where
        evaluated, the metrics.

    Raises:
        HwlError: bad configuration or data, a partial run with another configuration, a loss that
            is NaN, or a process that is lost.
    """
    if config.processes and not launched():
        return spread(config.processes, train, config=config, folder=folder)
    keep_freed_memory()
    data = Path(config.data)
    # What needs no data is refused before they are read.
    check_gpus_are_found()
    precision = _precision(config.precision)
    _check_compiler(config)
    loss_function = HeatmapWeightingLoss(config.weight_function)
    check_model(config.model, config.model_options)
    learned = load_split(data, config.train_split).first(config.train_limit)
    val = load_split(data, config.val_split).first(config.val_limit)
    if val.skeleton.keypoints != learned.skeleton.keypoints:
        raise HwlError(f"{val.path} has other keypoints than {learned.path}")
    boxes = _val_boxes(config, val)
    codec = HeatmapCodec((config.input_height, config.input_width), config.sigma)

    join_group()
    AcceleratorState._reset_state()  # else it keeps the precision of this process's last training
    accelerator = Accelerator(mixed_precision=precision)
    processes = accelerator.num_processes
    accelerator.print(f"device {accelerator.device}, precision '{precision}'")
    inputs = fingerprints(_inputs(config, learned, val))
    if take_over(config, inputs, folder, accelerator):
        return read_history(folder)
    if config.threads:
        torch.set_num_threads(config.threads)
    set_seed(config.seed)
    trained_on = f"{len(learned.annotated())} persons of {inputs['train']}"
    model = _new_model(config, learned.skeleton, codec, trained_on)
    if config.sync_batch_norm and processes > 1:
        share_batch_norm(model, accelerator.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr, fused=True)
    order, loader = _loader(config, learned, codec, accelerator)
    model = model.to(memory_format=torch.channels_last)
    model, optimizer = accelerator.prepare(model, optimizer)

    bare = accelerator.unwrap_model(model)
    if config.compile:
        bare.compile(dynamic=False)  # in place, so that the state dict's keys stay
    run = TrainingState(config, accelerator, bare, optimizer, folder, inputs)
    run.resume()

    def backward(sample: Sample, persons: int) -> Tensor:
        """Add the gradients of a part of a batch of so many persons in all processes."""
        crops = run.model.preprocess(sample.crop).to(memory_format=torch.channels_last)
        loss = loss_function(model(crops), sample.target, sample.weight)
        # The mean of the processes' gradients is then the mean of all persons'.
        loss = loss * (len(crops) * processes / persons)
        accelerator.backward(loss)
        return loss.detach()

    def add_gradients(batch: Batch) -> Tensor:
        """Add the gradients of this process's batch, and return its loss."""
        persons = order.samples(run.epoch_step)  # of all processes
        sample = samples_on(batch, codec, accelerator.device)
        *parts, last = sample.split(min(config.accumulate, persons // processes))
        loss = torch.zeros((), device=accelerator.device)
        with accelerator.no_sync(model):  # until the last part has been added
            for part in parts:
                loss += backward(part, persons)
        return loss + backward(last, persons)

    predictor = Predictor(
        model=run.model,
        prepared=partial(PoseNet.forward, run.model),  # neither compiled nor in mixed precision
        codec=codec,
        batch_size=config.batch_size,
    )
    observed = folder if config.profile and accelerator.is_main_process else None
    with told_when_lost(processes, run.how_to_go_on), profiled(observed) as step_is_done:
        while run.epoch < config.epochs:
            run.begin_epoch()
            model.train()
            order.epoch, order.start = run.epoch, run.epoch_step
            for batch in _shown(loader, f"epoch {run.epoch + 1}/{config.epochs}", accelerator):
                lr = learning_rate(config, run.step, run.epoch)
                for group in optimizer.param_groups:
                    group["lr"] = lr
                optimizer.zero_grad()
                loss = add_gradients(batch)
                optimizer.step()
                run.count(loss)
                step_is_done()
                if run.epoch_step % config.checkpoint_steps == 0 and run.epoch_step < order.steps:
                    run.save()
            record = run.close_epoch(lr)
            if run.epoch % config.evaluate_every == 0 or run.epoch == config.epochs:
                metrics, protocol = validate(predictor, val, boxes, config, accelerator)
                record |= metrics
                run.keep_if_best(record, metrics, protocol)
            accelerator.print(_line(record, config), flush=True)
            run.show_on_board(record)
            run.save()
        if accelerator.is_main_process:
            run.finish(learned, val)
        accelerator.wait_for_everyone()
    return run.history


def _new_model(
    config: TrainConfig, skeleton: Skeleton, codec: HeatmapCodec, trained_on: str
) -> PoseNet:
    """The model to train, which describes itself, from random or from given weights."""
    model = create_model(config.model, len(skeleton), **config.model_options)
    model.describe(
        Description(
            skeleton=skeleton,
            input_size=codec.input_size,
            sigma=codec.sigma,
            trained_on=trained_on,
        )
    )
    return load_weights(model, config.init_weights) if config.init_weights else model


def first_samples(config: TrainConfig, count: int) -> list[Sample]:
    """The first samples that a run of this configuration learns from, to look at."""
    train = load_split(Path(config.data), config.train_split).first(config.train_limit)
    codec = HeatmapCodec((config.input_height, config.input_width), config.sigma)
    dataset = _dataset(config, train, codec)
    return [dataset[0, index] for index in range(min(count, len(dataset)))]


def _inputs(config: TrainConfig, train: Annotations, val: Annotations) -> dict[str, Path]:
    """What a training learns from and is evaluated on."""
    inputs = {"train": train.path, "val": val.path}
    inputs |= {"train images": train.folder, "val images": val.folder}
    if config.detections:
        inputs["detections"] = Path(config.detections)
    if config.init_weights:
        inputs["init weights"] = weights = fetch_weights(config.init_weights, config.model)
        if not weights.is_file():
            raise HwlError(f"{weights}: there is no such weights file")
    return inputs


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
    return "bf16" if gpu_has_bfloat16() else "no"


def _check_compiler(config: TrainConfig) -> None:
    if config.compile and not has_compiler("cuda" if torch.cuda.is_available() else "cpu"):
        raise HwlError("parameter 'compile' needs a C++ compiler: install g++ or leave it out")


def _dataset(config: TrainConfig, train: Annotations, codec: HeatmapCodec) -> PersonDataset:
    how = None
    if config.augment:
        how = Augmentation(half_body=config.half_body)
        if train.skeleton.keypoints == MPII.keypoints:  # whose centers mmpose does not shift
            how = dataclasses.replace(how, shift=0.0)
    return PersonDataset(train, codec, how, config.seed)


def _loader(
    config: TrainConfig, train: Annotations, codec: HeatmapCodec, accelerator: Accelerator
) -> tuple[EpochBatches, DataLoader]:
    dataset = _dataset(config, train, codec)
    order = EpochBatches(
        length=len(dataset),
        batch_size=config.batch_size,
        seed=config.seed,
        process=accelerator.process_index,
        processes=accelerator.num_processes,
    )
    source = BatchSource.of(dataset, config.crop_cache, accelerator.device.type)
    loader = DataLoader(
        source.dataset,
        batch_sampler=order,
        collate_fn=source.collate,
        persistent_workers=config.workers > 0,
        pin_memory=torch.cuda.is_available(),
        **in_workers(config.workers),
    )
    return order, loader


def _shown(loader: DataLoader, what: str, accelerator: Accelerator) -> Iterator[Batch]:
    """The loader's batches; the main process shows a bar."""
    batches = delivered(loader)
    return progress(batches, what, len(loader)) if accelerator.is_main_process else batches


def _line(record: dict[str, float], config: TrainConfig) -> str:
    metric = f"  {config.metric} {record[config.metric]:.3f}" if config.metric in record else ""
    return (
        f"epoch {record['epoch']:>3}/{config.epochs}  loss {record['loss']:.6f}  "
        f"lr {record['lr']:.1e}  {record['seconds']:.0f} s{metric}"
    )

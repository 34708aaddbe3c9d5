"""A training step on this machine, part by part, and what it comes to for each profile."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml
from torch import nn

from hwl.allocator import keep_freed_memory
from hwl.codec import HeatmapCodec
from hwl.data.annotations import Annotations, load_detections, load_split
from hwl.data.batch_source import BatchSource
from hwl.data.cached import Batch, samples_on
from hwl.data.crops import Augmentation
from hwl.data.dataset import PersonDataset
from hwl.errors import HwlError
from hwl.losses import HeatmapWeightingLoss
from hwl.models import Description, PoseNet, create_model
from hwl.paths import PROJECT, in_project
from hwl.processor import gpu_has_bfloat16, instruction_sets, one_thread, torch_threads
from hwl.progress import progress
from hwl.speed.bench_run import bench_run
from hwl.speed.config import TrainingRateConfig
from hwl.speed.peak import large_product
from hwl.speed.projection import (
    COCO_BOXES,
    COCO_PERSONS,
    Training,
    hours,
    profile_trainings,
    training_work,
    work_of,
)

PARTS = ("data", "transfer", "forward", "backward", "optimizer")
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
WARM_UPS = 3  # rounds


@dataclass(frozen=True)
class Step:
    """Everything that a training step needs, as `hwl.training.fit` has it."""

    model: PoseNet
    optimizer: torch.optim.Optimizer
    loss: nn.Module
    codec: HeatmapCodec
    device: torch.device

    def timed(self, batch: Batch, precision: str) -> dict[str, float]:
        """Train on a batch; seconds of all PARTS but the first."""
        marks = Marks(self.device)
        marks.set()
        sample = samples_on(batch, self.codec, self.device)
        marks.set()
        kind = PRECISIONS[precision]
        with torch.autocast(self.device.type, kind, enabled=precision != "float32"):
            crops = self.model.preprocess(sample.crop).to(memory_format=torch.channels_last)
            loss = self.loss(self.model(crops), sample.target, sample.weight)
        marks.set()
        self.optimizer.zero_grad()
        loss.backward()
        marks.set()
        self.optimizer.step()
        marks.set()
        return dict(zip(PARTS[1:], marks.seconds(), strict=True))


class Marks:
    """Moments between pieces of work: of the clock on a CPU, events in the queue of a GPU."""

    def __init__(self, device: torch.device) -> None:
        self.on_gpu = device.type == "cuda"
        self.moments: list[Any] = []

    def set(self) -> None:
        """What was begun since the last mark ends here."""
        if self.on_gpu:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.moments.append(event)
        else:
            self.moments.append(time.perf_counter())

    def seconds(self) -> list[float]:
        """Between each mark and the next."""
        pairs = zip(self.moments, self.moments[1:], strict=False)
        if not self.on_gpu:
            return [after - before for before, after in pairs]
        torch.cuda.synchronize()
        return [before.elapsed_time(after) / 1000 for before, after in pairs]


def bench_train(config: TrainingRateConfig) -> dict[str, pd.DataFrame]:
    """Measure a training step, on the GPU where there is one, and write a run folder.

    Returns:
        `parts`: one row a precision and part of a step, its median ms and images/s; the data are
        made by one core. `steps`: one row a precision: images/s without the data, and the share of
        the rate of a large matrix product measured in the same rounds. `profiles`: hours of each
        profile at the fastest precision, and their cost.

    Raises:
        HwlError: the output, the data or a profile cannot be used, or the crop cache cannot be
            made.
    """
    return bench_run(config, _tables)


def _tables(config: TrainingRateConfig) -> dict[str, pd.DataFrame]:
    listed = _listed_trainings()  # before anything is measured
    keep_freed_memory()
    with torch_threads(config.threads):
        annotations = load_split(Path(config.data), config.train_split)
        step = _step(config, annotations)
        persons = PersonDataset(annotations, step.codec, Augmentation(), seed=0)
        make = BatchSource.of(persons, config.crop_cache, step.device.type)
        seconds, peaks = _measure(step, make, len(persons), config)
        steps = _steps(seconds, peaks, step, config.batch_size)
    tables = {
        "parts": _parts(seconds, config.batch_size),
        "steps": steps,
        "profiles": _profiles(listed, float(steps["GFLOP/s"].max()), config.price),
    }
    return tables


def _step(config: TrainingRateConfig, annotations: Annotations) -> Step:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    codec = HeatmapCodec((config.input_height, config.input_width))
    model = create_model(config.model, len(annotations.skeleton))
    model.describe(Description(skeleton=annotations.skeleton, input_size=codec.input_size))
    model = model.train().to(memory_format=torch.channels_last).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4, fused=True)
    return Step(model, optimizer, HeatmapWeightingLoss(), codec, device)


def _precisions(device: torch.device) -> list[str]:
    """float32, and bfloat16 where it has matrix units: of a GPU, or AMX of an Intel processor."""
    cuda = device.type == "cuda"
    native = gpu_has_bfloat16() if cuda else "amx_bf16" in instruction_sets()
    return list(PRECISIONS) if native else ["float32"]


def _measure(
    step: Step,
    make: BatchSource,
    persons: int,
    config: TrainingRateConfig,
) -> tuple[dict[str, list[dict[str, float]]], dict[str, list[float]]]:
    """Seconds by part and the peak rate in GFLOP/s, both by precision, a round after the other."""
    rng = np.random.default_rng(0)
    precisions = _precisions(step.device)
    seconds: dict[str, list[dict[str, float]]] = {name: [] for name in precisions}
    peaks: dict[str, list[float]] = {name: [] for name in precisions}
    for number in progress(range(config.rounds + WARM_UPS), "measure"):
        for name in precisions:
            pairs = [(number, int(i)) for i in rng.integers(0, persons, config.batch_size)]
            batch, data = _by_one_core(make, pairs)
            found = {"data": data, **step.timed(batch, name)}
            rate = _peak_rate(step.device, PRECISIONS[name])
            if number >= WARM_UPS:
                seconds[name].append(found)
                peaks[name].append(rate)
    return seconds, peaks


def _by_one_core(
    make: Callable[[list[tuple[int, int]]], Batch], pairs: list[tuple[int, int]]
) -> tuple[Batch, float]:
    """A batch made by one thread, as in a data-loading process, and the seconds that it took."""
    with one_thread():
        started = time.perf_counter()
        return make(pairs), time.perf_counter() - started


def _peak_rate(device: torch.device, kind: torch.dtype) -> float:
    """GFLOP/s."""
    product, work = large_product(device.type, kind)
    product()
    marks = Marks(device)
    marks.set()
    product()
    marks.set()
    return work / marks.seconds()[0]


def _parts(seconds: Mapping[str, list[dict[str, float]]], batch: int) -> pd.DataFrame:
    rows = []
    for precision, rounds in seconds.items():
        medians = {part: float(np.median([one[part] for one in rounds])) for part in PARTS}
        for part, median in medians.items():
            rows.append(
                {
                    "precision": precision,
                    "part": part,
                    "ms a step": 1000 * median,
                    "images/s": batch / median if median else np.inf,
                    "of the step": median / sum(medians.values()),
                }
            )
    return pd.DataFrame(rows)


def _steps(
    seconds: Mapping[str, list[dict[str, float]]],
    peaks: Mapping[str, list[float]],
    step: Step,
    batch: int,
) -> pd.DataFrame:
    work = training_work(step.model, step.codec.input_size).flops * batch / 1e9
    rows = []
    for precision, rounds in seconds.items():
        whole = float(np.median([sum(one.values()) - one["data"] for one in rounds]))
        peak = float(np.median(peaks[precision]))
        rows.append(
            {
                "device": step.device.type,
                "threads": torch.get_num_threads(),
                "precision": precision,
                "batch": batch,
                "images/s": batch / whole,
                "GFLOP/s": work / whole,
                "peak GFLOP/s": peak,
                "of the peak rate": work / whole / peak,
            }
        )
    return pd.DataFrame(rows)


def _listed_trainings() -> dict[str, list[Training]]:
    """The trainings of each profile that lists some and whose data are known."""
    found = {}
    amounts_of = cache(_persons_and_boxes)  # profiles share data
    for path in sorted((PROJECT / "profiles").glob("*.yaml")):
        profile = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not profile.get("variants"):  # speed alone, or the evidence experiment, which is no list
            continue
        recipe = profile["recipe"]
        splits = recipe.get("train_split", "train2017"), recipe.get("val_split", "val2017")
        if amounts := amounts_of(profile["data"], recipe.get("detections", ""), *splits):
            try:
                found[path.stem] = list(profile_trainings(profile, *amounts))
            except KeyError as error:
                raise HwlError(f"{path}: 'recipe' has no {error}, which it needs") from error
    return found


def _profiles(listed: Mapping[str, list[Training]], rate: float, price: float) -> pd.DataFrame:
    """What each profile takes on this machine if every model is computed at one rate.

    Args:
        listed: trainings by profile.
        rate: GFLOP/s of training.
        price: of an hour; 0 leaves the cost out.
    """
    rows = []
    known: dict[str, int] = {}  # work by what is trained, which profiles share

    def flops(training: Training) -> int:
        if training.counted not in known:
            known[training.counted] = work_of(training).flops
        return known[training.counted]

    for name, trainings in listed.items():
        rates = {one.name: 1e9 * rate / flops(one) for one in trainings}
        _, total = hours(trainings, rates, devices=1)
        row = {"profile": name, "trainings": len(trainings), "hours": total}
        rows.append(row | ({"cost": total * price} if price else {}))
    return pd.DataFrame(rows)


def _persons_and_boxes(
    data: str, detections: str, train_split: str, val_split: str
) -> tuple[int, int] | None:
    """Of a recipe's data: those of COCO unless it is there; None where nobody knows."""
    folder = in_project(data)
    try:
        val = load_split(folder, val_split)
        boxes = len(val.annotated())
        if detections:
            boxes = len(load_detections(in_project(detections), val))
        return len(load_split(folder, train_split).annotated()), boxes
    except HwlError:
        return (COCO_PERSONS, COCO_BOXES) if data == "data/coco" else None

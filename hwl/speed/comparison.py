"""The speed comparison: models in runtimes, by device, threads and batch."""

from __future__ import annotations

import copy
import gc
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn

from hwl.codec import HeatmapCodec
from hwl.data.annotations import Annotations, load_split
from hwl.errors import HwlError
from hwl.inference.export import calibration_crops
from hwl.inference.predictor import Predictor
from hwl.inference.runtimes import RUNTIMES, prepare, unavailable
from hwl.models import MODELS, Description, PoseNet, create_model
from hwl.processor import cores, torch_threads
from hwl.progress import progress
from hwl.skeletons import COCO, Skeleton
from hwl.speed.config import SpeedConfig
from hwl.speed.counting import CONVOLUTIONS, count_macs
from hwl.speed.end_to_end import crowded, time_end_to_end
from hwl.speed.latency import Models, Row, Setting, differences, time_models
from hwl.speed.memory import peak_memory
from hwl.speed.tables import EAGER, stage_choice, with_ratios

SAMPLES = 8  # crops on which runtimes are compared with eager, and which calibrate without data


@dataclass(frozen=True)
class Speed:
    """What a speed comparison found, as tables.

    Attributes:
        latencies: one row a model, runtime, device, threads and batch: median and quartiles in
            ms an image, images a second, how many times faster than eager there, and the share
            of the peak rate (float32 alone).
        peak_rate: GFLOP/s of a float32 matrix product, measured interleaved with each setting.
        agreement: largest difference from eager's heatmaps over their largest value.
        skipped: what could not run, and why.
        memory: peak memory in MiB; empty where it was not asked for.
        end_to_end: seconds by stage from image files to keypoints; empty without data.
    """

    latencies: pd.DataFrame
    peak_rate: pd.DataFrame
    agreement: pd.DataFrame
    skipped: pd.DataFrame
    memory: pd.DataFrame
    end_to_end: pd.DataFrame


def complete(config: SpeedConfig) -> SpeedConfig:
    """The configuration with the names of all models and runtimes in place of none."""
    return replace(
        config, models=config.models or list(MODELS), runtimes=config.runtimes or list(RUNTIMES)
    )


def compare_speed(config: SpeedConfig) -> Speed:
    """Time models in runtimes on the CPU by threads and, where there is one, on the GPU.

    Weights are random, for the time does not depend on them.

    Raises:
        HwlError: a setting that cannot be measured, or data that cannot be used.
    """
    config = complete(config)
    _check(config)
    size = (config.input_height, config.input_width)
    annotations = load_split(Path(config.data), config.split) if config.data else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the same weights at every run: what was exported is in the cache
        images = _crops(config, size)
        skeleton = annotations.skeleton if annotations else COCO
        models = {name: _model(name, skeleton, images[:SAMPLES]) for name in config.models}
        crops = models[config.models[0]].preprocess(images)
    rows: dict[str, list[Row]] = {field.name: [] for field in fields(Speed)}
    usable, rows["skipped"] = _usable(config.runtimes)
    settings = settings_of(config.threads)
    for setting in settings:
        with torch_threads(setting.threads):
            prepared_models, faults = _prepare(models, usable[setting.device], crops, setting)
            rows["skipped"] += faults
            here: list[Row] = []
            # Upwards: an engine of fixed batches would fill a small one up to a larger one.
            for batch in sorted(config.batches):
                times, rate = time_models(prepared_models, size, setting, batch, config.rounds)
                here += times
                rows["peak_rate"].append(rate)
            rows["latencies"] += here
            rows["agreement"] += differences(
                prepared_models, crops[:SAMPLES], min(config.batches), setting
            )
            if setting.threads == settings[-1].threads:
                if annotations:
                    rows["end_to_end"] += _end_to_end(
                        models, prepared_models, here, annotations, config, setting
                    )
                if config.memory:
                    peaks, faults = _peaks(models, prepared_models, crops, setting)
                    rows["memory"] += peaks
                    rows["skipped"] += faults
            del prepared_models
            _free()
    tables = {name: pd.DataFrame(found) for name, found in rows.items()}
    tables["skipped"] = tables["skipped"].drop_duplicates(ignore_index=True)
    macs = {name: count_macs(model, size) for name, model in models.items()}
    tables["latencies"] = with_ratios(tables["latencies"], tables["peak_rate"], macs)
    return Speed(**tables)


def _check(config: SpeedConfig) -> None:
    """HwlError on what would fail after minutes, or mean nothing."""
    for name in ("threads", "batches"):
        if not getattr(config, name):
            raise HwlError(f"parameter '{name}' is empty: there is nothing to measure")
    for runtime in config.runtimes:
        unavailable(runtime, "cpu")  # refuses a name that is none
    if EAGER not in config.runtimes:
        raise HwlError("parameter 'runtimes' must have 'eager', which the others are compared with")
    if config.memory and sys.platform != "linux":
        raise HwlError("parameter 'memory' is true: peak memory is read from /proc, Linux's alone")


def settings_of(threads: list[int]) -> list[Setting]:
    """The CPU by number of threads, each once and most last, then the GPU."""
    numbers = sorted({number or cores() for number in threads})
    settings = [Setting("cpu", number) for number in numbers]
    if torch.cuda.is_available():
        settings.append(Setting("cuda", numbers[-1]))
    return settings


def _model(name: str, skeleton: Skeleton, images: Tensor) -> PoseNet:
    """A model with random weights and activations of ordinary size, as a trained one has.

    The tiny weights that some models start from make activations denormal numbers, which a CPU
    computes many times slower. With larger ones and BN that does nothing they vanish in one model
    and grow in another, and rounding errors with them; hence BN has the statistics of images: of
    crops, which are compared, and of noise, with which runtimes are checked.
    """
    model = create_model(name, len(skeleton)).train()
    model.describe(Description(skeleton=skeleton, input_size=(images.shape[2], images.shape[3])))
    crops = model.preprocess(images)
    for module in model.modules():
        if isinstance(module, CONVOLUTIONS):
            module.reset_parameters()
        elif isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # the statistics are those of the images to come
    with torch.no_grad():
        model(torch.cat([crops, torch.randn_like(crops)]))
    return model.eval()


def _crops(config: SpeedConfig, size: tuple[int, int]) -> Tensor:
    """(M, 3, H, W) uint8 crops that calibrate int8 and on which runtimes are compared."""
    if config.data:
        return calibration_crops(Path(config.data), config.calibration_split, size)
    return torch.randint(0, 256, (SAMPLES, 3, *size), dtype=torch.uint8)


def _usable(runtimes: list[str]) -> tuple[dict[str, list[str]], list[Row]]:
    """Runtimes by device, and what cannot run on a device that it is made for."""
    usable: dict[str, list[str]] = {"cpu": [], "cuda": []}
    skipped = []
    for runtime in runtimes:
        for device in RUNTIMES[runtime].devices:
            if reason := unavailable(runtime, device):
                skipped.append(_fault("all", runtime, device, reason))
            else:
                usable[device].append(runtime)
    return usable, skipped


def _fault(model: str, runtime: str, device: str, reason: str) -> Row:
    return {"model": model, "runtime": runtime, "device": device, "reason": reason}


def _prepare(
    models: Mapping[str, PoseNet], runtimes: list[str], crops: Tensor, setting: Setting
) -> tuple[Models, list[Row]]:
    """Every model in every runtime, and those that failed, with the reason."""
    size = (crops.shape[2], crops.shape[3])
    prepared_models: Models = {}
    faults = []
    for model, runtime in progress([(s, r) for s in models for r in runtimes], "prepare"):
        try:
            prepared_models[model, runtime] = prepare(
                models[model], runtime, size, crops, setting.device
            )
        except HwlError as error:
            faults.append(_fault(model, runtime, setting.device, str(error)))
    return prepared_models, faults


def _end_to_end(
    models: Mapping[str, PoseNet],
    prepared_models: Models,
    latencies: list[Row],
    annotations: Annotations,
    config: SpeedConfig,
    setting: Setting,
) -> list[Row]:
    predictors = [
        Predictor(
            model=copy.deepcopy(models[name]).to(setting.device),
            prepared=prepared_models[name, runtime],
            codec=HeatmapCodec((config.input_height, config.input_width)),
            batch_size=batch_size,
            runtime=runtime,
        )
        for (name, runtime), batch_size in stage_choice(pd.DataFrame(latencies)).items()
    ]
    return time_end_to_end(predictors, annotations, crowded(annotations, config.images))


def _peaks(
    models: Mapping[str, PoseNet], prepared_models: Models, crops: Tensor, setting: Setting
) -> tuple[list[Row], list[Row]]:
    """Rows of peak memory of all that was prepared, and what failed in a process of its own."""
    rows: list[Row] = []
    faults: list[Row] = []
    for model, runtime in progress(prepared_models, "peak memory"):
        where: Row = {"model": model, "runtime": runtime, "device": setting.device}
        try:
            peaks = peak_memory(models[model], runtime, crops, setting.device)
            rows.append({**where, "threads": setting.threads, **peaks})
        except HwlError as error:
            faults.append({**where, "reason": str(error)})
    return rows, faults


def _free() -> None:
    """Give back what a setting's models held."""
    torch.compiler.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()

"""The data side of training, image by image: out of files, and out of a crop cache."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from hwl.codec import HeatmapCodec
from hwl.data.annotations import load_split
from hwl.data.batch_source import BatchSource
from hwl.data.cached import samples_on
from hwl.data.crops import Augmentation
from hwl.data.dataset import PersonDataset
from hwl.processor import one_thread
from hwl.progress import progress
from hwl.speed.bench_run import bench_run
from hwl.speed.coco_scale import coco_scale
from hwl.speed.config import DataRateConfig

FILES = "files: decode, warp, targets"
CACHE = "crop cache, on the CPU: warp, targets"
HOST = "crop cache, left on the host: cut out"
DEVICE = "crop cache, done by the GPU: copy, warp, targets"
WARM_UPS = 2  # rounds

Task = Callable[[list[tuple[int, int]]], object]


def bench_data(config: DataRateConfig) -> dict[str, pd.DataFrame]:
    """Measure the data side and write a run folder.

    Returns:
        `data`: one row a way to make batches, with images/s a core and how many times that is the
        first way's. With `coco_size` also `coco_size`, from `hwl.speed.coco_scale`.

    Raises:
        HwlError: the output or the data cannot be used, or the crop cache cannot be made.
    """
    return bench_run(config, _tables)


def _tables(config: DataRateConfig) -> dict[str, pd.DataFrame]:
    annotations = load_split(Path(config.data), config.train_split)
    codec = HeatmapCodec((config.input_height, config.input_width))
    persons = PersonDataset(annotations, codec, Augmentation(), seed=0)
    ways: dict[str, Task] = {
        FILES: BatchSource.of(persons, "", "cpu"),
        CACHE: BatchSource.of(persons, config.crop_cache, "cpu"),
        HOST: (on_host := BatchSource.of(persons, config.crop_cache, "cuda")),
    }
    if torch.cuda.is_available():
        ways[DEVICE] = _on_gpu(on_host, codec)
    seconds = _measure(ways, len(persons), config)
    rates = {way: config.batch_size / np.median(times) for way, times in seconds.items()}
    rows = [
        {
            "way": way,
            "ms an image": 1000 / rates[way],
            "images/s a core": rates[way] if way != DEVICE else np.nan,
            "images/s": rates[way] if way == DEVICE else np.nan,
            "times files": rates[way] / rates[FILES],
        }
        for way in ways
    ]
    tables = {"data": pd.DataFrame(rows)}
    if config.coco_size:
        tables["coco_size"] = coco_scale()
    return tables


def _on_gpu(on_host: BatchSource, codec: HeatmapCodec) -> Task:
    """Gives the GPU's own time of the batch that was cut out in the same round."""
    device = torch.device("cuda")

    def task(pairs: list[tuple[int, int]]) -> float:
        batch = on_host(pairs)
        started, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        started.record()
        samples_on(batch, codec, device)
        ended.record()
        torch.cuda.synchronize()
        return started.elapsed_time(ended) / 1000

    return task


def _measure(ways: dict[str, Task], persons: int, config: DataRateConfig) -> dict[str, list[float]]:
    """Seconds of a core, or of the GPU, that each way takes for the same batches, interleaved.

    One thread's processor time and not the clock's: other programs of the machine do not count.
    """
    rng = np.random.default_rng(0)
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    with one_thread():
        for epoch in progress(range(config.rounds + WARM_UPS), "measure"):
            pairs = [(epoch, int(i)) for i in rng.integers(0, persons, config.batch_size)]
            for way, task in ways.items():
                started = time.process_time()
                told = task(pairs)
                took = time.process_time() - started
                if epoch >= WARM_UPS:
                    seconds[way].append(told if isinstance(told, float) else took)
    return seconds

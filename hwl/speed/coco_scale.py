"""What files of COCO's size take to read, check, learn from and evaluate on this machine."""

from __future__ import annotations

import multiprocessing
import os
import re
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from hwl.allocator import keep_freed_memory
from hwl.codec import HeatmapCodec
from hwl.data.annotations import load_detections, load_split
from hwl.data.batches import EpochBatches
from hwl.data.check import check_split
from hwl.data.crops import Augmentation
from hwl.data.dataset import PersonDataset, Sample
from hwl.data.loading import in_workers
from hwl.evaluation.evaluate import evaluate
from hwl.files import write_compact_json
from hwl.inference.predictor import Predictor
from hwl.models import Description, create_model
from hwl.skeletons import COCO
from hwl.speed.coco_size import write_coco_size

SIZE = (256, 192)  # height, width in pixels
WORKERS = 2
BATCH = 64
BOOTSTRAP = 200

Facts = dict[str, float]


def coco_scale(factor: int = 1) -> pd.DataFrame:
    """Make files of COCO's size in a temporary folder and time what reads them.

    Each task runs in a fresh process of its own, whose peak memory is told.

    Args:
        factor: leave out all but a fraction 1 / factor of the files.

    Returns:
        One row a task: `seconds` by the clock, `core seconds` with those of its data-loading
        processes, `peak MiB` of resident memory, and in `also` what else there is to tell.
    """
    tasks: dict[str, Callable[[Path], Facts]] = {
        "load train2017's annotations": _load,
        f"first batch of {BATCH}, {WORKERS} workers": _first_batch,
        "check val2017": _check_val,
        "check train2017": _check_train,
        f"evaluate detected boxes, bootstrap {BOOTSTRAP}": _evaluate,
    }
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_coco_size(folder, factor)
        # A fork would start with the memory of this process.
        fresh = multiprocessing.get_context("spawn")
        for name, task in tasks.items():
            with ProcessPoolExecutor(1, mp_context=fresh) as pool:
                costs, facts = pool.submit(_measured, task, folder).result()
            also = ", ".join(f"{what} {value:.4g}" for what, value in facts.items())
            rows.append({"task": name, **costs, "also": also})
    return pd.DataFrame(rows)


def _measured(task: Callable[[Path], Facts], folder: Path) -> tuple[Facts, Facts]:
    """What a task costs this fresh process, and what it tells."""
    torch.set_num_threads(1)
    keep_freed_memory()  # as a training and an evaluation do
    started, worked = time.perf_counter(), sum(os.times()[:4])
    facts = task(folder)
    costs = {
        "seconds": time.perf_counter() - started,
        "core seconds": sum(os.times()[:4]) - worked,
    }
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return {**costs, "peak MiB": int(peak) / 1024}, facts


def _load(folder: Path) -> Facts:
    """Load the training annotations."""
    train = load_split(folder, "train2017")
    return {"persons": len(train.ids), "images": len(train.image_ids)}


def own_memory() -> float:
    """MiB of this process that no other one shares."""
    usage = Path("/proc/self/smaps_rollup").read_text()
    return sum(int(kb) for kb in re.findall(r"Private_\w+:\s+(\d+) kB", usage)) / 1024


class _Observed(PersonDataset):
    """Tells a worker's own memory in place of its target weights' first number."""

    def __getitem__(self, epoch_and_index: tuple[int, int]) -> Sample:
        sample = super().__getitem__(epoch_and_index)
        return sample._replace(weight=torch.tensor(own_memory()))


def _first_batch(folder: Path) -> Facts:
    train = load_split(folder, "train2017")
    samples = _Observed(train, HeatmapCodec(SIZE), Augmentation(), seed=0)
    loader = DataLoader(
        samples,
        batch_sampler=EpochBatches(len(samples), BATCH, seed=0),
        **in_workers(WORKERS),
    )
    batch = next(iter(loader))
    return {"persons": len(samples), "a worker's own MiB": float(batch.weight.max())}


def _check_val(folder: Path) -> Facts:
    check_split(folder, "val2017")
    return {}


def _check_train(folder: Path) -> Facts:
    check_split(folder, "train2017")
    return {}


def _evaluate(folder: Path) -> Facts:
    val = load_split(folder, "val2017")
    (detections,) = (folder / "person_detection_results").iterdir()
    boxes = load_detections(detections, val)
    codec = HeatmapCodec(SIZE)
    model = create_model("ours").eval()
    model.describe(Description(skeleton=COCO, input_size=SIZE))
    rng = np.random.default_rng(0)
    heatmaps = torch.from_numpy(rng.random((BATCH, len(COCO), *codec.heatmap_size), np.float32))

    def free(crops: Tensor) -> Tensor:
        return heatmaps[: len(crops)]

    predictor = Predictor(model=model, prepared=free, codec=codec, batch_size=BATCH)
    found = evaluate(predictor, val, boxes, workers=WORKERS, bootstrap=BOOTSTRAP)
    results = folder / "results.json"
    write_compact_json(results, found.results)
    return {
        "boxes": len(boxes),
        "results MB": results.stat().st_size / 1e6,
        "persons in them": len(found.results),
    }

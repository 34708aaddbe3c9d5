"""From image files to keypoints on a GPU, by stage: python measure_end_to_end.py DATA CSV SECONDS.

The stages tell the host's reading and decoding of the images from the GPU's work. Each model is
timed in eager PyTorch and as a CUDA graph in bfloat16, with and without the flip test, and its rows
are written when it is done. With HWL_DRY=1 it runs on the CPU with tiny sizes, to be tried out.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import torch
from rows import write_row

from hwl.codec import HeatmapCodec
from hwl.data.annotations import load_split
from hwl.inference.predictor import Predictor
from hwl.inference.runtimes import prepare
from hwl.models import MODELS, Description, create_model
from hwl.speed.end_to_end import crowded, time_end_to_end

DRY = os.environ.get("HWL_DRY") == "1"
DEVICE = "cpu" if DRY else "cuda"
SIZE = (64, 32) if DRY else (256, 192)
IMAGES = 1 if DRY else 100
BATCH = 2 if DRY else 64
NAMES = ("ours",) if DRY else tuple(MODELS)
IN = ("eager",) if DRY else ("eager", "cuda-graph-bf16")


def main(data: Path, path: Path, seconds: float) -> None:
    """Write rows until all models are timed or the time ends."""
    end = time.monotonic() + seconds
    annotations = load_split(data, "val2017")
    boxes = crowded(annotations, IMAGES)
    with path.open("w", newline="", encoding="utf-8") as file:
        for name in NAMES:
            torch.manual_seed(0)
            model = create_model(name, len(annotations.skeleton)).eval().to(DEVICE)
            model.describe(Description(skeleton=annotations.skeleton, input_size=SIZE))
            predictors = [
                Predictor(
                    model=model,
                    prepared=prepare(model, runtime, SIZE, device=DEVICE),
                    codec=HeatmapCodec(SIZE),
                    batch_size=BATCH,
                    runtime=runtime,
                )
                for runtime in IN
            ]
            for row in time_end_to_end(predictors, annotations, boxes):
                write_row(file, row)
                print(row, flush=True)
            if time.monotonic() > end:
                print(f"out of time after {name}", flush=True)
                return


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))

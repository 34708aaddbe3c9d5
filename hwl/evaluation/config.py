"""What an evaluation run is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, get_args

from msgspec import Meta

from hwl.config import (
    BatchSize,
    CountOrZero,
    FilePath,
    Metric,
    Name,
    OptionalName,
    OptionalPath,
    OwnOrInputSide,
    Threads,
    Workers,
    check,
)

METRICS: tuple[str, ...] = get_args(Metric)


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """An evaluation run; the defaults are the paper's test protocol."""

    kind: ClassVar[str] = "evaluate"
    output: FilePath  # the run's folder
    weights: FilePath  # weights file of hwl, any checkpoint or URL with `model`, or openmmlab
    # Of create_model, if the weights do not name their model (empty: they do).
    model: OptionalName = ""
    data: FilePath  # folder in COCO's layout
    split: Name = "val2017"  # annotations/person_keypoints_<split>.json
    limit: CountOrZero = 0  # use the first so many persons (0: all)
    detections: OptionalPath = ""  # detected boxes, COCO result format (empty: ground-truth boxes)
    metric: Metric = "AP"  # AP (COCO), PCK (LSP) or PCKh (MPII)
    flip: bool = True  # flip test
    input_height: OwnOrInputSide = 0  # pixels (0: the weights' own)
    input_width: OwnOrInputSide = 0  # pixels (0: the weights' own)
    allow_other_size: bool = False  # accept another input size than the weights' own
    batch_size: BatchSize = 64  # crops a forward pass
    workers: Workers = 2  # processes that read and crop
    threads: Threads = 0  # CPU threads (0: torch's default)
    # Of hwl.inference.runtimes, or auto: the fastest of float32 precision here.
    runtime: Name = "eager"
    # Folder in COCO's layout whose persons calibrate an int8 runtime.
    calibration_data: OptionalPath = ""
    calibration_split: Name = "train2017"  # annotations/person_keypoints_<split>.json there
    # Resamplings of the images for the interval of AP (0: none).
    bootstrap: Annotated[int, Meta(ge=0, le=100_000)] = 200

    def __post_init__(self) -> None:
        """Check every value; raises HwlError."""
        check(self)

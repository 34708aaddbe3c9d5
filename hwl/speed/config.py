"""What a speed comparison and the two benchmarks of training are told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from msgspec import Meta

from hwl.config import (
    BatchSize,
    Count,
    FilePath,
    InputSide,
    Name,
    OptionalPath,
    Threads,
    check,
)


@dataclass(frozen=True)
class SpeedConfig:
    """A speed comparison on this machine."""

    kind: ClassVar[str] = "speed"
    output: FilePath  # the run's folder
    models: list[Name] = field(default_factory=list)  # names of create_model (empty: all)
    # Of hwl.inference.runtimes (empty: all); eager must be one.
    runtimes: list[Name] = field(default_factory=list)
    input_height: InputSide = 256  # pixels
    input_width: InputSide = 192  # pixels
    threads: list[Threads] = field(default_factory=lambda: [1, 0])  # CPU threads (0: all cores)
    batches: list[BatchSize] = field(default_factory=lambda: [1, 8, 32])  # images a forward pass
    rounds: Annotated[int, Meta(ge=1, le=10_000)] = 20  # interleaved measurements of each model
    data: OptionalPath = ""  # folder in COCO's layout (empty: random images, model alone)
    split: Name = "val2017"  # whose images are measured from file to keypoints
    calibration_split: Name = "train2017"  # whose persons calibrate int8
    images: Count = 100  # measured from file to keypoints, those with the most persons
    memory: bool = False  # measure peak memory too, one process a model (Linux)
    # Folder of evaluation runs <model>-seed0, for the figure (empty: none).
    accuracy: OptionalPath = ""

    def __post_init__(self) -> None:
        """Check every value; raises HwlError."""
        check(self)


@dataclass(frozen=True, kw_only=True)
class DataRateConfig:
    """A benchmark of the data side of training, and of files of COCO's size."""

    kind: ClassVar[str] = "bench-data"
    output: FilePath = "runs/bench/data"  # the run's folder
    data: FilePath = "data/coco-subset"  # folder in COCO's layout
    train_split: Name = "train2017"  # annotations/person_keypoints_<split>.json
    crop_cache: FilePath = "data/crops"  # folder of a crop cache, made where there is none
    input_height: InputSide = 256  # pixels
    input_width: InputSide = 192  # pixels
    batch_size: BatchSize = 64  # persons
    rounds: Annotated[int, Meta(ge=1, le=10_000)] = 11  # interleaved batches of each way
    coco_size: bool = False  # make files of COCO's size and time what reads them: some minutes

    def __post_init__(self) -> None:
        """Check every value; raises HwlError."""
        check(self)


@dataclass(frozen=True, kw_only=True)
class TrainingRateConfig:
    """A benchmark of a training step, part by part."""

    kind: ClassVar[str] = "bench-train"
    output: FilePath = "runs/bench/train"  # the run's folder
    data: FilePath = "data/coco-subset"  # folder in COCO's layout
    train_split: Name = "train2017"  # annotations/person_keypoints_<split>.json
    crop_cache: OptionalPath = ""  # folder of a crop cache (empty: decode every time)
    model: Name = "ours"  # name for hwl.models.create_model
    input_height: InputSide = 256  # pixels
    input_width: InputSide = 192  # pixels
    batch_size: BatchSize = 32  # persons a step
    rounds: Annotated[int, Meta(ge=1, le=10_000)] = 11  # steps measured
    threads: Threads = 0  # CPU threads of torch (0: its default)
    price: Annotated[float, Meta(ge=0, le=10_000)] = 0.0  # of an hour of this machine

    def __post_init__(self) -> None:
        """Check every value; raises HwlError."""
        check(self)

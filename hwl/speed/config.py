"""What a speed comparison is told."""

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

"""How weights are opened and run, and what predicting and detecting are told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from msgspec import Meta

from hwl.config import (
    BatchSize,
    FilePath,
    Name,
    OptionalName,
    OptionalPath,
    OwnOrInputSide,
    check,
)

DETECTOR = "fasterrcnn_mobilenet_v3_large_320_fpn"  # of torchvision, 74 MB, fast on a CPU
Score = Annotated[float, Meta(ge=0, le=1)]


@dataclass(frozen=True, kw_only=True)
class PredictorConfig:
    """Options of `hwl.load`; the defaults are what the weights themselves say."""

    # Of create_model, if the weights do not name their model (empty: they do).
    model: OptionalName = ""
    input_height: OwnOrInputSide = 0  # pixels (0: the weights' own)
    input_width: OwnOrInputSide = 0  # pixels (0: the weights' own)
    allow_other_size: bool = False  # accept another input size than the weights' own
    flip: bool = True  # flip test
    batch_size: BatchSize = 64  # crops a forward pass
    # Folder in COCO's layout whose persons calibrate an int8 runtime.
    calibration_data: OptionalPath = ""
    calibration_split: Name = "train2017"  # annotations/person_keypoints_<split>.json there

    def __post_init__(self) -> None:
        """Check every value; raises HwlError."""
        check(self)


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Poses of the persons in photographs and videos."""

    kind: ClassVar[str] = "predict"
    weights: FilePath  # weights file of hwl, any checkpoint or URL with `model`, or openmmlab
    # Folder for drawings and results; new, or of an earlier predict.
    output: FilePath = "predictions"
    # A person's box in every image: x y width height, pixels.
    box: list[tuple[float, float, float, float]] = field(default_factory=list)
    # JSON file: file name to a list of boxes [x, y, width, height], pixels.
    boxes: OptionalPath = ""
    whole_image: bool = False  # every image is one person
    detector: Name = DETECTOR  # of torchvision, finds the persons where no boxes are given
    detector_score: Score = 0.5  # least score of a detected person
    # Of hwl.inference.runtimes, or auto: the fastest of float32 precision here.
    runtime: Name = "eager"
    # Of create_model, if the weights do not name their model (empty: they do).
    model: OptionalName = ""
    input_height: OwnOrInputSide = 0  # pixels (0: the weights' own)
    input_width: OwnOrInputSide = 0  # pixels (0: the weights' own)
    allow_other_size: bool = False  # accept another input size than the weights' own
    flip: bool = True  # flip test
    batch_size: BatchSize = 64  # crops a forward pass
    # Folder in COCO's layout whose persons calibrate an int8 runtime.
    calibration_data: OptionalPath = ""
    calibration_split: Name = "train2017"  # annotations/person_keypoints_<split>.json there

    def __post_init__(self) -> None:
        """Check every value; raises HwlError."""
        check(self)


@dataclass(frozen=True, kw_only=True)
class DetectConfig:
    """Detected person boxes of a split, for the protocol with detected boxes."""

    data: FilePath  # folder in COCO's layout
    output: FilePath  # the file to write, COCO result format
    split: Name = "val2017"  # annotations/person_keypoints_<split>.json
    detector: Name = "fasterrcnn_resnet50_fpn_v2"  # of torchvision
    detector_score: Score = 0.05  # least score of a box

    def __post_init__(self) -> None:
        """Check every value; raises HwlError."""
        check(self)

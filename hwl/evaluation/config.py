"""What an evaluation run is told."""

from __future__ import annotations

from dataclasses import dataclass

METRICS = ("AP", "PCK", "PCKh")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """An evaluation run; the defaults are the paper's test protocol."""

    output: str  # the run's folder
    weights: str  # weights file of hwl, any checkpoint or URL with `model`, or openmmlab
    model: str = ""  # of create_model, if the weights do not name their model (empty: they do)
    data: str  # folder in COCO's layout
    split: str = "val2017"  # annotations/person_keypoints_<split>.json
    limit: int = 0  # use the first so many persons (0: all)
    detections: str = ""  # detected boxes, COCO result format (empty: ground-truth boxes)
    metric: str = "AP"  # AP (COCO), PCK (LSP) or PCKh (MPII)
    flip: bool = True  # flip test
    input_height: int = 256  # pixels
    input_width: int = 192  # pixels
    batch_size: int = 64  # crops a forward pass
    workers: int = 2  # processes that read and crop
    threads: int = 0  # CPU threads (0: torch's default)
    runtime: str = (
        "eager"  # of hwl.inference.runtimes, or auto: the fastest of float32 precision here
    )
    calibration_data: str = ""  # folder in COCO's layout whose persons calibrate an int8 runtime
    calibration_split: str = "train2017"  # annotations/person_keypoints_<split>.json there
    bootstrap: int = 200  # resamplings of the images for the interval of AP (0: none)

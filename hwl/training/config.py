"""What a training run is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from hwl.config import (
    BatchSize,
    Count,
    CountOrZero,
    FilePath,
    InputSide,
    Metric,
    Name,
    OptionalPath,
    Seed,
    Sigma,
    Threads,
    Workers,
    check,
)
from hwl.runs.command import relative

# Changing these changes nothing of what a run computes, but for rounding by threads and compile, so
# that a killed run may go on with other values.
MACHINE_FIELDS = (
    "output",
    "workers",
    "threads",
    "compile",
    "checkpoint_steps",
    "processes",
    "keep_weights",
    "profile",
)


@dataclass(frozen=True)
class TrainConfig:
    """A training run; the defaults are the paper's recipe at 256x192."""

    kind: ClassVar[str] = "train"
    output: FilePath  # the run's folder
    data: FilePath  # folder in COCO's layout
    train_split: Name = "train2017"  # annotations/person_keypoints_<split>.json
    val_split: Name = "val2017"  # likewise; evaluated with flip test
    # Its detected boxes, COCO result format (empty: ground-truth boxes).
    detections: OptionalPath = ""
    train_limit: CountOrZero = 0  # use the first so many persons (0: all)
    val_limit: CountOrZero = 0  # likewise
    metric: Metric = "AP"  # AP (COCO), PCK (LSP) or PCKh (MPII): which value is best
    model: Name = "ours"  # name for hwl.models.create_model
    model_options: dict = field(default_factory=dict)  # its options, such as {"head": "dense"}
    init_weights: OptionalPath = ""  # checkpoint to start from (empty: random weights)
    weight_function: Name = "identity"  # F of the loss; "zero" is plain MSE
    input_height: InputSide = 256  # pixels
    input_width: InputSide = 192  # pixels
    sigma: Sigma = 2.0  # of the target Gaussian, heatmap cells
    epochs: Annotated[int, Meta(ge=1, le=100_000)] = 210
    batch_size: BatchSize = 64  # persons a step on each device
    accumulate: Count = 1  # parts that a batch is computed in, one after the other, to save memory
    lr: Annotated[float, Meta(gt=0, le=10)] = 5e-4  # Adam's learning rate
    warmup_steps: CountOrZero = 500  # linear warm-up from 0.001 lr
    # Epochs after which the rate is a tenth.
    lr_drops: list[Count] = field(default_factory=lambda: [170, 200])
    evaluate_every: Count = 10  # epochs; the last epoch is always evaluated
    augment: bool = True  # the paper's augmentation; False: plain crops
    half_body: Annotated[float, Meta(ge=0, le=1)] = 0.3  # probability; the authors use 0 on MPII
    seed: Seed = 0
    # auto: bf16 on a GPU that has it, else no.
    precision: Literal["auto", "no", "fp16", "bf16"] = "auto"
    compile: bool = False  # the model with torch.compile, for a GPU; a minute or two at the start
    processes: Workers = 0  # to start here, one a GPU (0: this one alone, or the launcher's)
    sync_batch_norm: bool = False  # batch normalization over the batches of all processes
    workers: Workers = 2  # data-loading processes on each device
    # Folder of a crop cache, made where there is none: decoded pixels (empty: decode every time).
    crop_cache: OptionalPath = ""
    threads: Threads = 0  # CPU threads of torch (0: its default)
    checkpoint_steps: Count = 500  # steps between checkpoints inside an epoch
    keep_weights: bool = False  # of every checkpoint, in weights/, to study the training afterwards
    profile: bool = False  # write where the time of a few steps goes, a trace and a table

    def __post_init__(self) -> None:
        """Check every value; raises HwlError."""
        check(self)


def differing(asked: Mapping[str, object], recorded: Mapping[str, object]) -> dict[str, object]:
    """The fields that change what a run computes and that a record has otherwise, as it has them.

    Args:
        asked: fields of a configuration, or some of them.
        recorded: those of a run; in both, paths may be relative to the project.
    """
    return {
        name: recorded.get(name)
        for name, value in asked.items()
        if name not in MACHINE_FIELDS and relative(recorded.get(name)) != relative(value)
    }

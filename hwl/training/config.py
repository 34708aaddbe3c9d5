"""What a training run is told."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class TrainConfig:
    """A training run; the defaults are the paper's recipe at 256x192."""

    output: str  # the run's folder
    data: str  # folder in COCO's layout
    train_split: str = "train2017"  # annotations/person_keypoints_<split>.json
    val_split: str = "val2017"  # likewise; evaluated with flip test
    detections: str = ""  # its detected boxes, COCO result format (empty: ground-truth boxes)
    train_limit: int = 0  # use the first so many persons (0: all)
    val_limit: int = 0  # likewise
    metric: str = "AP"  # AP (COCO), PCK (LSP) or PCKh (MPII): which value is best
    model: str = "ours"  # name for hwl.models.create_model
    model_options: dict = field(default_factory=dict)  # its options, such as {"head": "dense"}
    init_weights: str = ""  # checkpoint to start from (empty: random weights)
    weight_function: str = "identity"  # F of the loss; "zero" is plain MSE
    input_height: int = 256  # pixels
    input_width: int = 192  # pixels
    sigma: float = 2.0  # of the target Gaussian, heatmap cells
    epochs: int = 210
    batch_size: int = 64  # persons a step on each device
    lr: float = 5e-4  # Adam's learning rate
    warmup_steps: int = 500  # linear warm-up from 0.001 lr
    lr_drops: list[int] = field(default_factory=lambda: [170, 200])  # epochs after which lr / 10
    evaluate_every: int = 10  # epochs; the last epoch is always evaluated
    augment: bool = True  # the paper's augmentation; False: plain crops
    half_body: float = 0.3  # probability; the authors use 0 on MPII
    seed: int = 0
    precision: str = "auto"  # no, fp16, bf16, or auto: bf16 on a GPU that has it, else no
    workers: int = 2  # data-loading processes on each device
    threads: int = 0  # CPU threads of torch (0: its default)
    checkpoint_steps: int = 500  # steps between checkpoints inside an epoch

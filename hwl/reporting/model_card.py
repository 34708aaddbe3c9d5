"""What stands beside published weights: data, recipe, accuracy, limits, licence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pandas as pd
from msgspec import Meta

from hwl.config import build, check
from hwl.errors import HwlError
from hwl.runs.record import Record

SHOWN: tuple[str, ...] = (
    "train_limit",
    "input_height",
    "input_width",
    "epochs",
    "batch_size",
    "lr",
    "lr_drops",
    "warmup_steps",
)
SHOWN += ("weight_function", "augment", "init_weights", "seed")


Text = Annotated[str, Meta(min_length=1, description="a text, not empty")]


@dataclass(frozen=True)
class Said:
    """What no measurement tells of published weights: an entry of a profile."""

    limits: Text  # what the model cannot do
    licence: Text  # of the weights, and of the data that they were trained on

    def __post_init__(self) -> None:
        """Check every value; raises HwlError."""
        check(self)


def read_said(run: str, entry: object) -> Said:
    """What a profile says of the weights of a run.

    Raises:
        HwlError: the entry has not both texts, or has others.
    """
    where = f"'published_weights' of {run}"
    if not isinstance(entry, Mapping):
        raise HwlError(f"{where} in the profile has no 'limits' and 'licence': write both")
    try:
        return build(Said, entry)
    except HwlError as error:
        raise HwlError(f"{where} in the profile: {error}") from None


def model_card(profile: Path, run: str, said: Said) -> str:
    """A model card in Markdown.

    Args:
        profile: folder with `train/<run>` and `evaluate/<run>`.
        run: the run's name, such as "ours-seed0".
        said: what no measurement tells.

    Raises:
        HwlError: a record or a table lacks what the card says.
    """
    trained = Record(profile / "train" / run / "run.json")
    config = trained.entry("config")
    data = "\n".join(f"- {name}: {value}" for name, value in trained.entry("inputs").items())
    recipe = "\n".join(f"- {name}: {config[name]}" for name in SHOWN if config.get(name, "") != "")
    numbers = pd.read_csv(profile / "evaluate" / run / "protocols.csv")
    return f"""# {trained.entry("config", "model")}, {run}

Written by `hwl publish` from `run.json` and the evaluation in `../../evaluate/{run}`.

## Data

{trained.entry("config", "data")}, trained on {trained.entry("config", "train_split")}, \
the best checkpoint chosen on {trained.entry("config", "val_split")}.

{data}

## Recipe

{recipe}

Commit {trained.entry("git", "commit")}, torch {trained.entry("packages", "torch")}, \
{trained.entry("hardware", "cpu")}.

## Accuracy

{_accuracy(numbers)}

## Limits

{said.limits}

## Licence

{said.licence}
"""


def _accuracy(numbers: pd.DataFrame) -> str:
    """A bullet a protocol, with the 95 % bootstrap interval over images where there is one."""
    lines = []
    for _, row in numbers.iterrows():
        metric = next(name for name in ("AP", "PCK", "PCKh") if name in row)
        interval = ""
        if f"{metric}_low" in row:
            low, high = row[f"{metric}_low"], row[f"{metric}_high"]
            interval = f" (95 % interval over images {low:.3f} to {high:.3f})"
        flip = "flip test" if row["flip"] else "no flip"
        lines.append(
            f"- {metric} {row[metric]:.3f}{interval}: {row['boxes']} boxes, {flip}, "
            f"{row['decode']} decode, input {row['input']}, {row['images']} images"
        )
    return "\n".join(lines)

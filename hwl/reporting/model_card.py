"""What stands beside published weights: data, recipe, accuracy, limits, licence."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

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


def model_card(profile: Path, run: str, said: dict[str, str]) -> str:
    """A model card in Markdown.

    Args:
        profile: folder with `train/<run>` and `evaluate/<run>`.
        run: the run's name, such as "ours-seed0".
        said: "limits" and "licence", which no measurement tells.

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

{said["limits"]}

## Licence

{said["licence"]}
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

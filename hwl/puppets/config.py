"""What the drawing of puppets is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from hwl.config import FilePath, Seed, check


@dataclass(frozen=True)
class PuppetConfig:
    """Where the puppets go, how many images there are and which seed draws them."""

    folder: FilePath = "data/puppets"  # path, made whole or not at all
    train_images: Annotated[int, Meta(ge=0, le=1_000_000)] = 1600  # images
    val_images: Annotated[int, Meta(ge=0, le=1_000_000)] = 200  # images
    seed: Seed = 0  # whole number from 0

    def __post_init__(self) -> None:
        """Check every value; raises HwlError."""
        check(self)

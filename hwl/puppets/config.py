"""What the drawing of puppets is told."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from hwl.config import FilePath, Seed, check
from hwl.errors import HwlError

FORMAT = 1  # raise it when a seed's images change
LABEL = "puppets.json"  # tells how a folder was made


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

    def label(self) -> bytes:
        """What the folder's LABEL holds: how its images were drawn."""
        how = {name: value for name, value in asdict(self).items() if name != "folder"}
        return msgspec.json.encode({"format": FORMAT, **how})

    def drawn(self) -> bool:
        """Whether the folder holds these puppets; not, where it is missing or empty.

        Raises:
            HwlError: it holds something else.
        """
        folder, label = Path(self.folder), Path(self.folder, LABEL)
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            return False
        if not label.is_file() or label.read_bytes() != self.label():
            raise HwlError(
                f"{folder} exists but does not hold the puppets {self.label().decode()}: remove it "
                "or set another folder"
            )
        return True

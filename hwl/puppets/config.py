"""What the drawing of puppets is told."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PuppetConfig:
    """Where the puppets go, how many images there are and which seed draws them."""

    folder: str = "data/puppets"  # path, made whole or not at all
    train_images: int = 900  # images
    val_images: int = 200  # images
    seed: int = 0  # whole number from 0

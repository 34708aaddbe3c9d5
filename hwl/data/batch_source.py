"""Where training batches come from: files, or a crop cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.utils.data import default_collate

from hwl.data.cached import Batch, CachedPersons, as_batch
from hwl.data.crop_cache import open_crop_cache
from hwl.data.dataset import PersonDataset


@dataclass(frozen=True)
class BatchSource:
    """A DataLoader's data set and how it collates.

    Attributes:
        dataset: asked for by (epoch, index) pairs.
        collate: what a DataLoader makes a batch with.
    """

    dataset: PersonDataset | CachedPersons
    collate: Callable[[Any], Batch]

    @classmethod
    def of(cls, persons: PersonDataset, crop_cache: str, device: str) -> BatchSource:
        """Out of files or, where its folder is named, a crop cache, made before where it is not.

        Args:
            persons: which samples.
            crop_cache: a folder, or "" to decode every time.
            device: type of the one that the model runs on; from a crop cache, one other than "cpu"
                makes the samples itself.

        Raises:
            HwlError: as `open_crop_cache`.
        """
        if not crop_cache:
            return cls(persons, default_collate)
        cache = open_crop_cache(Path(crop_cache), persons.annotations, persons.codec.input_size)
        return cls(CachedPersons(persons, cache, on_device=device != "cpu"), as_batch)

    def __call__(self, epochs_and_indices: list[tuple[int, int]]) -> Batch:
        """A batch, as a data-loading process makes it."""
        return self.collate(self.dataset.__getitems__(epochs_and_indices))

"""The batches of an epoch, dealt out to the processes of a training."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from hwl.errors import HwlError


class EpochBatches(Sampler):
    """Yields one process's share of each batch of an epoch, a list of (epoch, index).

    The order of an epoch's samples follows from seed and epoch alone. A step takes the next
    `batch_size * processes` of them and deals them out in equal, consecutive runs; the last step
    takes what is left, so that every sample comes once an epoch. Were it too little to give every
    process a sample, the step before takes it too.

    Set `epoch` before iterating; set `start` to go on after so many steps of the epoch.

    Args:
        length: samples of the data set.
        batch_size: samples a step in each process.
        seed: of the order.
        process: the number of this process, counted from 0.
        processes: how many share the epoch.

    Raises:
        HwlError: fewer samples than processes.
    """

    def __init__(
        self, length: int, batch_size: int, seed: int, process: int = 0, processes: int = 1
    ) -> None:
        if length < processes:
            raise HwlError(f"{length} samples cannot be dealt out to {processes} processes")
        self.length = length
        self.together = batch_size * processes
        self.seed = seed
        self.process = process
        self.processes = processes
        whole, rest = divmod(length, self.together)
        self.steps = max(whole + (rest >= processes), 1)
        self.epoch = 0
        self.start = 0

    def samples(self, step: int) -> int:
        """Samples of all processes in that step of an epoch, counted from 0."""
        begin, end = self._range(step)
        return end - begin

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.length)
        for step in range(self.start, self.steps):
            begin, end = self._range(step)
            share = np.array_split(order[begin:end], self.processes)[self.process]
            yield [(self.epoch, int(index)) for index in share]

    def __len__(self) -> int:
        return self.steps - self.start

    def _range(self, step: int) -> tuple[int, int]:
        begin = step * self.together
        return begin, self.length if step == self.steps - 1 else begin + self.together

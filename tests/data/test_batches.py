"""Batches: every sample once an epoch, in an order of its own, whatever the processes."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwl.data.batches import EpochBatches
from hwl.errors import HwlError

Sample = tuple[int, int]


def batches_of(epoch: int, seed: int = 0, start: int = 0, length: int = 50) -> list[list[Sample]]:
    batches = EpochBatches(length, 7, seed)
    batches.epoch, batches.start = epoch, start
    found = list(batches)
    assert len(batches) == len(found)
    return found


def order_of(epoch: int, seed: int = 0) -> list[Sample]:
    return [sample for batch in batches_of(epoch, seed) for sample in batch]


def test_an_epoch_has_every_index_once() -> None:
    assert sorted(order_of(epoch=4)) == [(4, i) for i in range(50)]


def test_the_order_follows_from_seed_and_epoch() -> None:
    indices = [[i for _, i in order_of(epoch, seed)] for epoch, seed in [(0, 0), (1, 0), (0, 1)]]

    assert indices[0] == [i for _, i in order_of(0, 0)]
    assert indices[0] != indices[1] != indices[2] != indices[0]


@pytest.mark.parametrize("start", [0, 1, 7, 8])
def test_start_goes_on_exactly_where_the_epoch_was_left(start: int) -> None:
    assert batches_of(epoch=3, start=start) == batches_of(epoch=3)[start:]


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 5))
def test_processes_share_an_epoch_without_loss_or_repetition(
    length: int, batch_size: int, processes: int
) -> None:
    if length < processes:
        with pytest.raises(HwlError, match=f"{length} samples cannot be dealt out to {processes}"):
            EpochBatches(length, batch_size, seed=0, processes=processes)
        return
    shares = [EpochBatches(length, batch_size, 0, number, processes) for number in range(processes)]

    steps = list(zip(*shares, strict=True))  # all have as many steps
    together = [[sample for batch in step for sample in batch] for step in steps]

    assert sorted(itertools.chain(*together)) == [(0, i) for i in range(length)]
    for number, (step, samples) in enumerate(zip(steps, together, strict=True)):
        sizes = [len(batch) for batch in step]
        assert min(sizes) >= 1 and max(sizes) - min(sizes) <= 1
        assert shares[0].samples(number) == len(samples)
    for samples in together[:-1]:
        assert len(samples) == batch_size * processes
    assert len(together[-1]) < batch_size * processes + processes


def test_two_processes_with_half_the_batch_each_see_the_batches_of_one() -> None:
    alone = list(EpochBatches(23, 8, seed=1))
    halves = [list(EpochBatches(23, 4, 1, number, 2)) for number in range(2)]

    assert [first + second for first, second in zip(*halves, strict=True)] == alone

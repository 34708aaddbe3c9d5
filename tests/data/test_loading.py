"""Data-loading processes are forked, and their failures reach the user in one line."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from hwl.data.loading import delivered, in_workers
from hwl.errors import HwlError


class Items(Dataset):
    """Eight numbers, of which one does what is asked for."""

    def __init__(self, fail: Callable[[], None]) -> None:
        self.fail = fail

    def __len__(self) -> int:
        return 8

    def __getitem__(self, item: int) -> torch.Tensor:
        if item == 5:
            self.fail()
        return torch.tensor(item)


def refuse() -> None:
    raise HwlError("images/5.jpg: cannot be read;\nfetch it again")


def be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def find_no_room() -> None:
    raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left")


def divide_by_zero() -> None:
    raise RuntimeError("something else")


@pytest.mark.parametrize("workers", [0, 2])
def test_what_the_loader_gives_is_delivered(workers: int) -> None:
    loader = DataLoader(Items(lambda: None), batch_size=4, num_workers=workers)

    assert [batch.tolist() for batch in delivered(loader)] == [[0, 1, 2, 3], [4, 5, 6, 7]]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' processes start anew")
def test_they_are_forked_whatever_the_default_is(request: pytest.FixtureRequest) -> None:
    default = multiprocessing.get_start_method()
    request.addfinalizer(lambda: multiprocessing.set_start_method(default, force=True))
    multiprocessing.set_start_method("spawn", force=True)

    # A function of this test's own cannot be sent to a process that starts anew.
    loader = DataLoader(Items(lambda: None), batch_size=4, **in_workers(2))

    assert [batch.tolist() for batch in loader] == [[0, 1, 2, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_the_data_set_is_told_as_it_was_raised(workers: int) -> None:
    loader = DataLoader(Items(refuse), batch_size=4, num_workers=workers)

    with pytest.raises(HwlError) as caught:
        list(delivered(loader))

    assert str(caught.value) == "images/5.jpg: cannot be read;\nfetch it again"
    assert caught.value.__suppress_context__


def test_a_killed_worker_is_told_with_the_likely_cause() -> None:
    loader = DataLoader(Items(be_killed), batch_size=4, num_workers=2)

    with pytest.raises(HwlError, match="was killed, most likely because memory ran out: lower"):
        list(delivered(loader))


def test_full_shared_memory_is_told_with_the_remedy() -> None:
    loader = DataLoader(Items(find_no_room), batch_size=4, num_workers=2)

    with pytest.raises(HwlError, match=r"/dev/shm.*is full: .*--shm-size.*workers"):
        list(delivered(loader))


def test_another_error_keeps_its_traceback() -> None:
    loader = DataLoader(Items(divide_by_zero), batch_size=4, num_workers=2)

    with pytest.raises(RuntimeError, match="something else"):
        list(delivered(loader))


@pytest.mark.parametrize("fail", [refuse, divide_by_zero])
@pytest.mark.parametrize("persistent", [False, True])
def test_an_error_ends_the_processes_without_a_garbage_collection(
    fail: Callable[[], None], persistent: bool, request: pytest.FixtureRequest
) -> None:
    loader = DataLoader(Items(fail), batch_size=4, num_workers=2, persistent_workers=persistent)
    before = set(multiprocessing.active_children())
    request.addfinalizer(gc.enable)
    gc.disable()

    with pytest.raises((HwlError, RuntimeError)):
        list(delivered(loader))

    assert set(multiprocessing.active_children()) <= before

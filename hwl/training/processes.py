"""One training on several processes: forming the group, sharing its work, losing a member."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, record
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from hwl.errors import HwlError

Result = TypeVar("Result")


def launched() -> bool:
    """Whether `torchrun`, `accelerate launch` or `spread` started this process."""
    return "LOCAL_RANK" in os.environ


def join_group() -> PartialState:
    """This process in the group of those that were launched with it, formed at the first call."""
    # On CPUs accelerate forms a group only where it is told to use them.
    return PartialState(cpu=launched() and not torch.cuda.is_available())


def spread(processes: int, function: Callable[..., Result], **arguments: object) -> Result:
    """Call a function in several new processes of this machine, as `torchrun` does.

    Works in a notebook too. On a machine with GPUs each process has one.

    Args:
        processes: how many.
        function: importable, as the processes start anew.
        arguments: of the function, by name; they are pickled.

    Returns:
        What the function returns in the first process.

    Raises:
        HwlError: a process failed or was killed; the others have been ended.
    """
    if torch.cuda.is_available() and processes > torch.cuda.device_count():
        raise HwlError(
            f"parameter 'processes' is {processes}: there are {torch.cuda.device_count()} GPUs"
        )
    launch = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    try:
        with _own_handlers():
            return elastic_launch(launch, _call)(function, arguments)[0]
    except ChildFailedError as error:
        raise HwlError(_first_failure(error, processes)) from error


@contextlib.contextmanager
def _own_handlers() -> Iterator[None]:
    """Put back the handlers of signals, which torch's launcher sets and leaves.

    Its own raise an error that is no KeyboardInterrupt, also when a later cell is interrupted.
    """
    if threading.current_thread() is not threading.main_thread():  # where none can be set
        yield
        return
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")  # Windows has the first two
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # one that Python has not set
                signal.signal(number, handler)


def _first_failure(error: ChildFailedError, processes: int) -> str:
    rank, failure = error.get_first_failure()
    if failure.exitcode < 0:
        return (
            f"process {rank} of {processes} was ended by {signal.Signals(-failure.exitcode).name}; "
            "start the training again, it goes on from its last checkpoint"
        )
    told: Any = failure.message  # of an exception it is a dictionary, whatever its type says
    message = told["message"] if isinstance(told, dict) else told
    kind, _, text = message.partition(": ")
    return text if kind == HwlError.__name__ else f"process {rank} of {processes} failed: {message}"


@record
def _call(function: Callable[..., Result], arguments: dict[str, object]) -> Result:
    return function(**arguments)


@contextlib.contextmanager
def told_when_lost(processes: int, remedy: Callable[[], str]) -> Iterator[None]:
    """Within it, the loss of another process of the group is an HwlError of one line.

    The others notice it by a connection that breaks, or by the launcher that ends them.

    Args:
        processes: in the group; nothing is done for one.
        remedy: says how to go on.
    """
    if processes == 1 or threading.current_thread() is not threading.main_thread():
        yield
        return

    def lost(*_: object) -> None:
        raise HwlError(f"one of the {processes} processes of this training is lost; {remedy()}")

    before = signal.signal(signal.SIGTERM, lost)
    try:
        yield
    except RuntimeError as error:
        broken = isinstance(error, torch.distributed.DistError)
        if broken or "gloo" in str(error) or "NCCL" in str(error):
            lost()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)

"""The command that started a run, and its paths as they can be published."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from hwl.paths import from_project

# The command line of `hwl`, for the notebooks' kernels that it starts.
COMMAND = "HWL_COMMAND"


def command() -> str:
    """The command line of `hwl` that this process, or the kernel of its notebook, was started by.

    Else that of this process, and of a notebook that a person opened its name.
    """
    if COMMAND in os.environ:
        return os.environ[COMMAND]
    if "JPY_SESSION_NAME" in os.environ:
        return f"jupyter: {Path(os.environ['JPY_SESSION_NAME']).name}"
    return in_words("python", sys.argv)


def in_words(program: str, arguments: list[str]) -> str:
    """A command line to repeat, with paths relative to the project."""
    words = []
    for word in arguments:
        name, equals, value = word.rpartition("=")
        words.append(f"{name}{equals}{relative(value)}")
    return shlex.join([program, *words])


def relative(value: object) -> object:
    """A configuration's value with its absolute paths relative to the project."""
    if isinstance(value, str):
        return from_project(value) if os.path.isabs(value) else value
    if isinstance(value, Mapping):
        return {name: relative(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [relative(one) for one in value]
    return value

"""Strict configuration: a frozen dataclass from flat values, with errors that name the key."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from hwl.errors import HwlError

Config = TypeVar("Config")


def build(cls: type[Config], values: Mapping[str, object]) -> Config:
    """An instance of a configuration dataclass.

    Args:
        cls: a dataclass whose fields are plain types.
        values: field name to value; fields left out keep their default.

    Raises:
        HwlError: an unknown key (naming the nearest), a missing key or a value of another type.
    """
    known = [field.name for field in dataclasses.fields(cls)]
    for key in values:
        if key not in known:
            nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
            raise HwlError(f"unknown parameter '{key}'; did you mean '{nearest}'?")
    try:
        return msgspec.convert(dict(values), cls)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        where = path.rstrip("`") or "the parameters"
        got = f", not {values[where]!r}" if where in values else ""
        raise HwlError(f"parameter '{where}': {message.lower()}{got}") from error

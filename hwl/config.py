"""Strict configuration: frozen dataclasses whose values are checked wherever they come from.

A field's type says what it allows: `Annotated[int, msgspec.Meta(ge=1, le=64)]`, a `Literal`, or one
of the types below. Each configuration calls `check` when it is made, so that notebooks, profiles,
the command line and Python refuse the same values in the same words.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Mapping
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec
from msgspec import Meta

from hwl.errors import HwlError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")

LARGEST = 2**31 - 1  # of what is counted: persons, steps
BOUNDS = ("gt", "ge", "le", "multiple_of", "description")  # of msgspec's, those used here
SHOWN = 80  # characters of a wrong value in an error message

FilePath = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=4096,
        pattern=r"^[^\x00]*$",
        description="a path in UTF-8, not empty",
    ),
]
OptionalPath = Annotated[
    str,
    Meta(max_length=4096, pattern=r"^[^\x00]*$", description="a path in UTF-8, or empty for none"),
]
Name = Annotated[
    str,
    Meta(
        min_length=1, max_length=200, pattern=r"^[^/\\\x00]+$", description="a name without slashes"
    ),
]
OptionalName = Annotated[
    str,
    Meta(
        max_length=200,
        pattern=r"^[^/\\\x00]*$",
        description="a name without slashes, or empty for none",
    ),
]
Count = Annotated[int, Meta(ge=1, le=LARGEST)]
CountOrZero = Annotated[int, Meta(ge=0, le=LARGEST)]
InputSide = Annotated[int, Meta(ge=32, le=2048, multiple_of=32)]  # pixels
OwnOrInputSide = Annotated[int, Meta(ge=0, le=2048, multiple_of=32)]  # 0: the weights' own
BatchSize = Annotated[int, Meta(ge=1, le=65536)]
Workers = Annotated[int, Meta(ge=0, le=256)]  # processes
Threads = Annotated[int, Meta(ge=0, le=1024)]  # 0: the library's default
Seed = Annotated[int, Meta(ge=0, le=2**32 - 1)]  # what numpy's seeds allow
Sigma = Annotated[float, Meta(gt=0, le=100)]  # heatmap cells
Metric = Literal["AP", "PCK", "PCKh"]


def build(cls: type[Config], values: Mapping[str, object]) -> Config:
    """An instance of a configuration dataclass.

    Args:
        cls: a dataclass whose fields have types that `check` knows.
        values: field name to value; fields left out keep their default. Lists and mappings are
            copied; a whole number serves as a float.

    Raises:
        HwlError: an unknown key (naming the nearest), a missing key or a value that the field does
            not allow (naming what it allows).
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key in values:
        if key not in fields:
            nearest = difflib.get_close_matches(key, fields, n=1, cutoff=0.0)[0]
            raise HwlError(f"unknown parameter '{key}'; did you mean '{nearest}'?")
    hints = _hints(cls)
    for name, field in fields.items():
        if name not in values and field.default is field.default_factory is dataclasses.MISSING:
            raise HwlError(f"parameter '{name}' is missing: it must be {allowed(hints[name])}")
    return cls(**{name: checked(name, value, hints[name]) for name, value in values.items()})


def check(config: DataclassInstance) -> None:
    """Check the values of a configuration, to be called from its `__post_init__`.

    Raises:
        HwlError: a value of another type, out of its bounds or, of a float, not finite; it names
            the parameter and what is allowed.
    """
    for name, hint in _hints(type(config)).items():
        checked(name, getattr(config, name), hint)


def checked(name: str, value: object, hint: Any) -> Any:
    """A parameter's value, converted to its type where nothing is lost.

    Raises:
        HwlError: the value is not allowed; it names the parameter and what is.
    """
    try:
        converted = msgspec.convert(value, hint)
        if isinstance(converted, float) and not math.isfinite(converted):
            raise ValueError
        if isinstance(converted, str):
            converted.encode()  # a UnicodeEncodeError is a ValueError
    except (msgspec.ValidationError, ValueError) as error:
        shown = repr(value)
        shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}..."
        raise HwlError(f"parameter '{name}' is {shown}: it must be {allowed(hint)}") from error
    return converted


def allowed(hint: Any) -> str:
    """What a field's type allows, in words, such as "a whole number from 0 to 256"."""
    bounds: dict[str, Any] = {}
    if get_origin(hint) is Annotated:
        hint, *metas = get_args(hint)
        bounds = {
            name: getattr(meta, name)
            for meta in metas
            for name in BOUNDS
            if getattr(meta, name, None) is not None
        }
    if "description" in bounds:
        return bounds["description"]
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, get_args(hint)))}"
    if get_origin(hint) in (list, tuple):
        return f"a list, each entry {allowed(get_args(hint)[0])}"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return names.get(hint, "a mapping of names to values") + _range(bounds)


def _range(bounds: Mapping[str, float]) -> str:
    words = ""
    if "gt" in bounds:
        words += f" above {bounds['gt']:g}"
    if "ge" in bounds:
        words += f" from {bounds['ge']}"
    if "le" in bounds:
        words += f" to {bounds['le']}" if "ge" in bounds else f", {bounds['le']:g} at most"
    if "multiple_of" in bounds:
        words += f", divisible by {bounds['multiple_of']}"
    return words


def _hints(cls: type[DataclassInstance]) -> dict[str, Any]:
    hints = get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}

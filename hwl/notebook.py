"""What a notebook calls: begin a run from its parameters, keep figures and tables, publish."""

from __future__ import annotations

import ast
import os
import types
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import pandas as pd

from hwl import config
from hwl.files import told_when_full, write_json, write_table
from hwl.paths import in_project, is_path
from hwl.runs.folder import RunConfig, RunFolder
from hwl.runs.provenance import provenance

if TYPE_CHECKING:  # takes a second, and a table alone needs none
    from matplotlib.figure import Figure

Job = TypeVar("Job", bound=RunConfig)

# Set where a notebook is run in batch: the run's folder is published with the executed notebook.
BATCH = "HWL_BATCH"
# Names that IPython puts into a notebook's namespace.
IPYTHON_NAMES = {"In", "Out", "exit", "quit", "open", "get_ipython"}
# How papermill begins the cell that it puts behind the parameters cell.
INJECTED = "# Parameters"


class Run(Generic[Job]):
    """A notebook's run: its configuration, the folder that it fills, and its publication.

    Its cells can be run again in any order. A published run that a cell changes is copied first and
    replaced whole by the next `publish`.

    Attributes:
        config: what the parameters cell says.
    """

    def __init__(self, config: Job) -> None:
        self.config = config
        self._folder = RunFolder.of(config)
        self._folder.begin()
        self._published = False

    @property
    def folder(self) -> Path:
        """Where the run's files are written until it is published."""
        if self._published:
            self._folder.reopen()
            self._published = False
        return self._folder.path

    def save(self, figure: Figure, name: str) -> None:
        """Keep a figure as `<name>.png` and `<name>.svg`."""
        from hwl.reporting.figures import save  # takes a second, and a table alone needs none

        with self._writing() as folder:
            save(figure, folder, name)

    def table(self, rows: pd.DataFrame | Sequence[Mapping[str, object]], name: str) -> None:
        """Keep rows as `<name>.csv`; an empty table leaves no file.

        Args:
            rows: a frame, whose index is left out, or a mapping of column to value for each row.
            name: of the file, without its ending.
        """
        if isinstance(rows, pd.DataFrame):
            rows = rows.to_dict("records")
        if rows:
            with self._writing() as folder:
                write_table(folder / f"{name}.csv", rows)

    def publish(
        self, metrics: object | None = None, inputs: Mapping[str, Path] | None = None
    ) -> None:
        """Put the run in its place, replacing an older one whole.

        Args:
            metrics: what `metrics.json` holds (None: the job has written it, or there is none).
            inputs: files that the run read, for their fingerprints in `run.json` (None: the job has
                written that file, or the run read none).
        """
        with self._writing() as folder:
            if metrics is not None:
                write_json(folder / "metrics.json", metrics)
            if inputs is not None or not (folder / "run.json").exists():
                write_json(folder / "run.json", provenance(self.config, inputs or {}))
        if BATCH in os.environ:
            self._folder.mark(complete=True)
            self._folder.close()
        else:
            self._folder.publish()
            self._published = True

    @contextmanager
    def _writing(self) -> Iterator[Path]:
        folder = self.folder
        with told_when_full(f"what is in {folder} is kept: make room and run the cell again"):
            yield folder

    def close(self) -> None:
        """Let other runs have the output; what is not published stays in the partial folder."""
        self._folder.close()


_current: Run | None = None  # a kernel has one; the next one takes over the output's lock


def begin(cls: type[Job], namespace: Mapping[str, Any]) -> Run[Job]:
    """Begin the run that a notebook's parameters cell spells out; once more, begin it anew.

    A training that was interrupted, or finished and not published, goes on.

    Args:
        cls: the configuration dataclass.
        namespace: the notebook's `globals()`.

    Raises:
        HwlError: an unknown or ill-typed parameter, or an output that this run may not have.
    """
    global _current
    built = parameters(cls, namespace)
    if _current is not None:
        _current.close()
    _current = Run(built)
    return _current


def parameters(cls: type[Job], namespace: Mapping[str, Any]) -> Job:
    """The configuration that a notebook's parameters cell spells out.

    Relative paths start at the project's folder. Weights may also be a URL or "openmmlab", which
    are left as they are.

    Raises:
        HwlError: an unknown parameter, one that papermill injected too, or one of a wrong type; the
            nearest known one is named.
    """
    names = _assigned(namespace.get("In", ())) | set(cls.__dataclass_fields__)
    if "In" not in namespace:
        names |= {name for name, value in namespace.items() if _is_plain(name, value)}
    values = {name: namespace[name] for name in names if name in namespace}
    for name, value in values.items():
        if is_path(name, value) and not _is_published(name, value):
            values[name] = str(in_project(value))
    return config.build(cls, values)


def _is_published(name: str, value: str) -> bool:
    """Whether a parameter names weights that others publish."""
    if not name.endswith("weights"):
        return False
    from hwl.models.published import is_published  # takes seconds, and few notebooks have weights

    return is_published(value)


def _assigned(cells: Sequence[str]) -> set[str]:
    """The names that the last parameters cell and those injected since then assign.

    Args:
        cells: the source of all cells run so far, as IPython keeps them.
    """
    names: set[str] = set()
    for cell in reversed(cells):
        try:
            statements = ast.parse(cell).body
        except SyntaxError:
            continue
        assigned = {
            target.id
            for statement in statements
            if isinstance(statement, ast.Assign)
            for target in statement.targets
            if isinstance(target, ast.Name)
        }
        if cell.startswith(INJECTED):
            names |= assigned
        elif "output" in assigned:  # every run has one
            return names | assigned
    return names


def _is_plain(name: str, value: object) -> bool:
    """Whether a variable of a namespace without IPython can be a parameter."""
    return not (
        name.startswith("_")
        or name in IPYTHON_NAMES
        or isinstance(value, types.ModuleType)
        or callable(value)
    )

"""Notebooks in batch: papermill made strict, and the executed notebook in the run's folder."""

from __future__ import annotations

import ast
import base64
import difflib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from nbconvert import HTMLExporter

from hwl.errors import HwlError, explained
from hwl.files import write_text
from hwl.notebook import BATCH
from hwl.paths import PROJECT, in_project
from hwl.reporting.formulas import Formulas
from hwl.runs.folder import RunFolder, partial_folder, read_marker

NOTEBOOKS = PROJECT / "notebooks"
# Cells with this tag show drawings over images of the data set.
IMAGES_TAG = "images"


def parse(notebook: Path, name: str, text: str) -> object:
    """A parameter's value from a command line, read as the type of the notebook's default.

    Raises:
        HwlError: the notebook has no such parameter, or the text is not of its type.
    """
    default = _defaults(notebook)
    if name not in default:
        raise HwlError(_unknown(notebook, name, list(default)))
    wanted = type(default[name])
    try:
        if wanted is str:
            return text
        if wanted is bool:
            return {"true": True, "false": False}[text.lower()]
        value = wanted(text) if wanted in (int, float) else json.loads(text)
        if not isinstance(value, wanted):
            raise ValueError
        return value
    except (ValueError, KeyError) as error:
        raise HwlError(
            f"{notebook.name}: parameter '{name}' is {text!r}, which is no {wanted.__name__}"
            + (" (write it as JSON)" if wanted in (list, dict) else "")
        ) from error


def run(notebook: Path, values: Mapping[str, object]) -> Path:
    """Run a notebook and leave it, executed, in its run's folder.

    The notebook is given parameters and fills a folder. This one takes the place that the parameter
    `output` names when the executed notebook lies in it, as `notebook.ipynb` and `notebook.html`.
    Images that its cells tagged "images" show are taken out into `images/` beside them and linked,
    so that notebooks can be passed on without the data set's images.

    Returns:
        The executed notebook.

    Raises:
        HwlError: an unknown or ill-typed parameter, what the notebook itself raised, or a notebook
            that did not end with `run.publish()`.
    """
    defaults = _defaults(notebook)
    for name, value in values.items():
        if name not in defaults:
            raise HwlError(_unknown(notebook, name, list(defaults)))
        wanted = type(defaults[name])
        if type(value) is not wanted and not (wanted is float and type(value) is int):
            raise HwlError(
                f"{notebook.name}: parameter '{name}' is {value!r}, a {type(value).__name__}; "
                f"it must be a {wanted.__name__}"
            )
    folder = in_project(str({**defaults, **values}["output"]))
    with tempfile.TemporaryDirectory() as scratch:
        executed = Path(scratch) / notebook.name
        os.environ[BATCH] = "1"
        logging.getLogger("papermill").setLevel(logging.CRITICAL)  # errors are told below
        try:
            papermill.execute_notebook(
                *(notebook, executed, dict(values)),
                cwd=notebook.parent,
                kernel_name="python3",
                progress_bar=False,
                log_output=True,
                stdout_file=_Echo(),
                # The kernel warns of plain sockets at every start, which are this machine's own,
                # and of the one that it loses to an interrupt.
                extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
            )
        except papermill.PapermillExecutionError as error:
            told = explained(error.ename, error.evalue)
            if error.ename == HwlError.__name__ or told:
                raise HwlError(f"{notebook.name}: {told or error.evalue}") from None
            trace = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error.traceback))
            raise HwlError(f"{notebook.name} failed:\n{trace}") from None
        except DeadKernelError:
            raise HwlError(
                f"{notebook.name}: its kernel was killed, most likely because memory ran out: "
                "lower batch_size or workers, and run again"
            ) from None
        finally:
            del os.environ[BATCH]
        return _publish(notebook, nbformat.read(executed, as_version=4), folder)


class _Echo:
    """Passes a notebook's output on as it comes, so that a log shows a training's progress."""

    def write(self, text: str) -> None:
        print(text, end="", flush=True)

    def flush(self) -> None:
        """Nothing is held back."""


def _publish(notebook: Path, executed: nbformat.NotebookNode, output: Path) -> Path:
    """Add an executed notebook, its images and its page to the run that it left; publish all."""
    marker = read_marker(partial_folder(output)) or {}
    if not marker.get("complete"):
        raise HwlError(f"{notebook.name} left no run for {output}: its last cell is run.publish()")
    run = RunFolder(marker["kind"], output, reads={})
    folder = run.go_on()
    images = folder / "images"
    shutil.rmtree(images, ignore_errors=True)
    executed.metadata.pop("papermill", None)  # paths of this machine
    _take_images_out(executed, images)
    write_text(folder / "notebook.ipynb", nbformat.writes(executed))
    _write_page(folder / "notebook.ipynb", folder / "notebook.html")
    return run.publish() / "notebook.ipynb"


def _write_page(executed: Path, page: Path) -> None:
    """Write an executed notebook as an HTML page, with its code."""
    exporter = HTMLExporter(theme="light", preprocessors=[Formulas])
    text, _ = exporter.from_filename(str(executed))
    write_text(page, text)


def _take_images_out(executed: nbformat.NotebookNode, images: Path) -> None:
    """Replace the images that cells tagged "images" show by links to files."""
    outputs = [
        output
        for cell in executed.cells
        if IMAGES_TAG in cell.metadata.get("tags", [])
        for output in cell.get("outputs", [])
    ]
    count = 0
    for output in outputs:
        image = output.get("data", {}).get("image/png")
        if image is None:
            continue
        count += 1
        images.mkdir(parents=True, exist_ok=True)
        name = f"{count}.png"
        (images / name).write_bytes(base64.b64decode(image))
        output.data.clear()
        output.data["text/html"] = (
            f'<img src="images/{name}" style="max-width: 100%" alt="Images of the data '
            "set are kept beside this page and are not passed on; run the notebook to see "
            'them.">'
        )
        output.metadata.clear()


def _defaults(notebook: Path) -> dict[str, object]:
    """Names and literal values of a notebook's parameters cell, `output` among them.

    Raises:
        HwlError: there is no such notebook, it is broken, or its parameters cell is not of this
            form.
    """
    if not notebook.is_file():
        there = ", ".join(sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")))
        raise HwlError(f"{notebook}: there is no such notebook; there are {there}")
    try:
        cells = {
            number: cell.source
            for number, cell in enumerate(nbformat.read(notebook, as_version=4).cells, start=1)
            if "parameters" in cell.metadata.get("tags", [])
        }
    except OSError as error:
        raise HwlError(f"{notebook}: cannot be read ({error.strerror})") from error
    except Exception as error:  # a damaged notebook can fail with nearly any exception
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        raise HwlError(
            f"{notebook} is no notebook ({why}): save it anew in Jupyter, or take another copy"
        ) from error
    if len(cells) != 1:
        raise HwlError(f"{notebook}: {len(cells)} cells are tagged 'parameters', one is needed")
    ((number, source),) = cells.items()
    cell = f"{notebook}: cell {number}, tagged 'parameters',"
    try:
        defaults = dict(_assignment(statement, cell) for statement in ast.parse(source).body)
    except SyntaxError as error:
        raise HwlError(
            f"{cell} line {error.lineno} is no Python ({error.msg}): write `name = literal` there"
        ) from error
    if "output" not in defaults:
        raise HwlError(
            f"{cell} has no 'output', the run's folder: add a line like output = \"runs/mine\""
        )
    return defaults


def _assignment(statement: ast.stmt, cell: str) -> tuple[str, object]:
    """Name and value of `name = literal`, which may have a type; HwlError for anything else."""
    target: ast.expr | None = None
    value: ast.expr | None = None
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target, value = statement.targets[0], statement.value
    elif isinstance(statement, ast.AnnAssign):
        target, value = statement.target, statement.value
    with suppress(ValueError, TypeError):  # of what is no literal
        if isinstance(target, ast.Name) and value:
            return target.id, ast.literal_eval(value)
    raise HwlError(
        f"{cell} line {statement.lineno}, `{ast.unparse(statement).splitlines()[0]}`, is no "
        "`name = literal`: leave these alone there, and import and compute in a cell below"
    )


def _unknown(notebook: Path, name: str, known: list[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
    return f"{notebook.name} has no parameter '{name}'; did you mean '{nearest}'?"

"""Notebooks: their form, and papermill made strict by tiny notebooks."""

from __future__ import annotations

import ast
import base64
import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import nbformat
import numpy as np
import papermill
import pytest

from hwl import execute as notebooks
from hwl.config import build
from hwl.errors import HwlError
from hwl.paths import PROJECT


def config_of(path: Path) -> type:
    """The configuration that a notebook begins its run with."""
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type != "code":
            continue
        tree = ast.parse(cell.source)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "notebook.begin":
                names: dict[str, object] = {}
                imports = [line for line in tree.body if isinstance(line, ast.ImportFrom)]
                exec(ast.unparse(ast.Module(imports, [])), names)
                return eval(ast.unparse(node.args[0]), names)
    raise AssertionError(f"{path} begins no run")


CONFIGS = {path.stem: config_of(path) for path in sorted(notebooks.NOTEBOOKS.glob("*.ipynb"))}
every_notebook = pytest.mark.parametrize("name", CONFIGS)

PARAMETERS = """\
output = "results/tiny"  # the run's folder
number = 3
rate = 0.5
flip = True
names = ["a"]
options = {}
"""
BEGIN = """
from dataclasses import dataclass
from typing import ClassVar
from hwl import notebook

@dataclass(frozen=True)
class Tiny:
    kind: ClassVar[str] = "report"
    output: str
    number: int
    rate: float
    flip: bool
    names: list
    options: dict

run = notebook.begin(Tiny, globals())
"""
PUBLISH = "run.publish()"


def file_of(name: str) -> Path:
    return notebooks.NOTEBOOKS / f"{name}.ipynb"


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(file_of(name), as_version=4)


def code_cells(name: str) -> list[nbformat.NotebookNode]:
    return [cell for cell in read(name).cells if cell.cell_type == "code"]


def tiny(folder: Path, *cells: str | tuple[str, str], parameters: int = 1) -> Path:
    """A notebook of that many parameters cells and further cells, each source or (source, tag)."""
    sources = [(PARAMETERS, "parameters")] * parameters
    sources += [cell if isinstance(cell, tuple) else (cell, "") for cell in cells]
    notebook = nbformat.v4.new_notebook(metadata=read("6_report").metadata)
    for source, tag in sources:
        metadata = {"tags": [tag]} if tag else {}
        notebook.cells.append(nbformat.v4.new_code_cell(source, metadata=metadata))
    path = folder / "tiny.ipynb"
    nbformat.write(notebook, path)
    return path


def test_a_kind_of_run_has_one_notebook() -> None:
    assert len({config.kind for config in CONFIGS.values()}) == len(CONFIGS) > 0


@every_notebook
def test_the_parameters_cell_is_the_only_one_and_the_first_of_code(name: str) -> None:
    tagged = ["parameters" in cell.metadata.get("tags", []) for cell in code_cells(name)]

    assert tagged == [True] + [False] * (len(tagged) - 1)


@every_notebook
def test_the_parameters_are_plain_literals_named_as_the_fields(name: str) -> None:
    statements = ast.parse(code_cells(name)[0].source).body

    assert all(isinstance(statement, ast.Assign) for statement in statements)
    values = {s.targets[0].id: ast.literal_eval(s.value) for s in statements}
    assert list(values) == [field.name for field in dataclasses.fields(CONFIGS[name])]
    build(CONFIGS[name], values)


@every_notebook
def test_papermill_lists_every_parameter_with_its_default_and_help(name: str) -> None:
    listed = papermill.inspect_notebook(str(file_of(name)))

    assert list(listed) == [field.name for field in dataclasses.fields(CONFIGS[name])]
    for entry in listed.values():
        ast.literal_eval(entry["default"])
        assert entry["help"], entry["name"]


@every_notebook
def test_notebooks_are_kept_without_outputs_for_the_kernel_python3(name: str) -> None:
    assert read(name).metadata.kernelspec.name == "python3"
    for cell in code_cells(name):
        assert cell.outputs == [] and cell.execution_count is None


@every_notebook
def test_notebooks_define_no_functions_and_no_classes(name: str) -> None:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    for cell in code_cells(name):
        assert not any(isinstance(node, kinds) for node in ast.walk(ast.parse(cell.source)))


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("output", "3", "3"),
        ("number", "12", 12),
        ("rate", "1e-3", 0.001),
        ("rate", "1", 1.0),
        ("flip", "false", False),
        ("flip", "True", True),
        ("names", '["b", "c"]', ["b", "c"]),
        ("options", '{"head": "dense"}', {"head": "dense"}),
    ],
)
def test_parse_reads_a_text_as_the_type_of_the_default(
    name: str, text: str, value: object, tmp_path: Path
) -> None:
    parsed = notebooks.parse(tiny(tmp_path), name, text)

    assert parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("number", "1.5", "'number' is '1.5', which is no int"),
        ("number", "true", "'number' is 'true', which is no int"),
        ("rate", "fast", "'rate' is 'fast', which is no float"),
        ("flip", "1", "'flip' is '1', which is no bool"),
        ("names", "b", r"'names' is 'b', which is no list \(write it as JSON\)"),
        ("names", '{"a": 1}', "which is no list"),
        ("options", "[1]", r"which is no dict \(write it as JSON\)"),
        ("numbre", "1", "tiny.ipynb has no parameter 'numbre'; did you mean 'number'"),
    ],
)
def test_parse_names_what_it_cannot_read(
    name: str, text: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(HwlError, match=message):
        notebooks.parse(tiny(tmp_path), name, text)


# Without the strict check papermill 2.7 would warn about the first and run with both.
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"numbers": 4}, "unknown parameter 'numbers'; did you mean 'number'"),
        ({"number": "4"}, "'number' is '4': it must be a whole number"),
    ],
)
def test_a_notebook_that_plain_papermill_runs_fails_on_a_mistake(
    values: dict, message: str, tmp_path: Path
) -> None:
    with pytest.raises(papermill.PapermillExecutionError, match=message):
        papermill.execute_notebook(
            *(tiny(tmp_path, BEGIN, PUBLISH), tmp_path / "out.ipynb"),
            {"output": str(tmp_path / "run"), **values},
            progress_bar=False,
        )

    assert not list(tmp_path.glob("run*"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"numbers": 1}, "tiny.ipynb has no parameter 'numbers'; did you mean 'number'"),
        ({"number": "1"}, "'number' is '1', a str; it must be a int"),
        ({"number": True}, "'number' is True, a bool"),
        ({"rate": "1e-3"}, "'rate' is '1e-3', a str; it must be a float"),
        ({"flip": 1}, "'flip' is 1, a int; it must be a bool"),
    ],
)
def test_run_refuses_a_mistaken_parameter(values: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(HwlError, match=message):
        notebooks.run(tiny(tmp_path, BEGIN, PUBLISH), {"output": str(tmp_path / "run"), **values})

    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("cells", [0, 2])
def test_run_needs_exactly_one_parameters_cell(cells: int, tmp_path: Path) -> None:
    with pytest.raises(HwlError, match=f"{cells} cells are tagged 'parameters', one is needed"):
        notebooks.run(tiny(tmp_path, BEGIN, PUBLISH, parameters=cells), {})


def test_a_missing_notebook_is_named(tmp_path: Path) -> None:
    with pytest.raises(HwlError, match=r"gone\.ipynb: there is no such notebook"):
        notebooks.run(tmp_path / "gone.ipynb", {})
    with pytest.raises(HwlError, match=r"gone\.ipynb: there is no such notebook"):
        notebooks.parse(tmp_path / "gone.ipynb", "number", "1")


def test_a_mistake_found_in_the_notebook_is_told_without_a_traceback(tmp_path: Path) -> None:
    path = tiny(tmp_path, 'from hwl.errors import HwlError\nraise HwlError("no data")')

    with pytest.raises(HwlError) as caught:
        notebooks.run(path, {"output": str(tmp_path / "run")})

    assert str(caught.value) == "tiny.ipynb: no data"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "its kernel was killed, most"),
        ('raise OSError(28, "No space left on device", "runs/a")', "[Errno 28] No space left on"),
        ('raise MemoryError("9 GiB")', "memory ran out (9 GiB): lower batch_size"),
    ],
)
def test_want_of_memory_or_room_in_the_notebook_is_told_in_one_line(
    cell: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(HwlError) as caught:
        notebooks.run(tiny(tmp_path, cell), {"output": str(tmp_path / "run")})

    assert str(caught.value).startswith(f"tiny.ipynb: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_an_interrupt_ends_the_command_and_the_kernel(tmp_path: Path) -> None:
    path = tiny(tmp_path, "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(600)")
    command = [sys.executable, "-m", "hwl", "run", str(path), "-p", "output", str(tmp_path / "run")]
    # What a script starts in the background ignores interrupts, and so would this one.
    listening = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = subprocess.Popen(command, start_new_session=True, **streams, **listening)

    kernel = int(running.stdout.readline())
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=120)

    assert (running.returncode, err) == (130, "hwl: interrupted\n")
    with pytest.raises(ProcessLookupError):
        os.kill(kernel, 0)


def test_another_error_is_told_with_its_traceback_and_the_older_run_is_kept(
    tmp_path: Path,
) -> None:
    path, folder = tiny(tmp_path, "print(1 / (number - 3))"), tmp_path / "run"
    (folder / "images").mkdir(parents=True)
    (folder / "notebook.ipynb").write_text("older")

    with pytest.raises(HwlError) as caught:
        notebooks.run(path, {"output": str(folder)})

    message = str(caught.value)
    assert message.startswith("tiny.ipynb failed:\n")
    assert "ZeroDivisionError: division by zero" in message and "number - 3" in message
    assert "\x1b" not in message  # colors
    assert (folder / "notebook.ipynb").read_text() == "older"
    assert len(list(folder.iterdir())) == 2


def test_images_of_the_data_are_taken_out_and_figures_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blank = [np.full((9, 9, 3), gray, np.uint8) for gray in (10, 20)]
    figure, image = (cv2.imencode(".png", image)[1].tobytes() for image in blank)
    load = "from IPython.display import Image\nImage({!r})"
    path = tiny(*(tmp_path, BEGIN, load.format(figure), (load.format(image), "images")), PUBLISH)
    monkeypatch.chdir("/")  # a relative output starts at the project all the same
    relative = os.path.relpath(tmp_path / "run", PROJECT)

    executed = notebooks.run(path, {"output": relative, "number": 4})

    folder = tmp_path / "run"
    assert executed.resolve() == folder / "notebook.ipynb"
    assert (folder / "images/1.png").read_bytes() == image
    for file in (folder / "notebook.ipynb", folder / "notebook.html"):
        text = file.read_text()
        assert base64.b64encode(figure).decode() in text
        assert base64.b64encode(image).decode() not in text
        assert "images/1.png" in text
    assert "number = 4" in executed.read_text()
    assert "papermill" not in json.loads(executed.read_text())["metadata"]  # this machine's paths

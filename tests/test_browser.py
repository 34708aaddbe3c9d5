"""A notebook in JupyterLab, driven as a person would in a browser: headless Chromium."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from hwl.execute import NOTEBOOKS

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
PATIENCE = 240.0  # seconds for a kernel to start and run a notebook on a busy machine
# Of the open notebook: whether it was run to its end, and by which execution each cell was.
STATE = """() => {
  const panel = window.jupyterapp.shell.currentWidget;
  const kernel = panel?.sessionContext?.session?.kernel;
  const cells = (panel?.content?.widgets ?? []).filter(cell => cell.model.type === 'code');
  return {
    idle: kernel?.status === 'idle',
    counts: cells.map(cell => cell.model.executionCount),
    errors: cells.flatMap(cell => cell.model.outputs.toJSON())
      .filter(out => out.output_type === 'error').map(out => out.ename + ': ' + out.evalue),
  };
}"""
PICTURE = "div.jp-OutputArea:has(.widget-slider) img"  # of the first explorer


@pytest.fixture
def notebook(puppets: Path, trained: Path, tmp_path: Path) -> Path:
    """A copy of notebook 3 with parameters of a few puppets, in a folder of its own."""
    folder = tmp_path / "lab"
    folder.mkdir()
    values = {
        **{"output": str(tmp_path / "run"), "data": str(puppets), "persons": 2},
        "weights": str(trained / "best.safetensors"),
    }
    source = load_notebook_node(str(NOTEBOOKS / "3_loss_weights.ipynb"))
    nbformat.write(parameterize_notebook(source, values), folder / "lesson.ipynb")
    return folder / "lesson.ipynb"


@pytest.fixture
def lab(notebook: Path) -> Iterator[str]:
    """The address of the notebook in a JupyterLab of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = [f"--port={port}", "--ip=127.0.0.1", "--no-browser", "--allow-root"]
    options += ["--IdentityProvider.token=x", f"--ServerApp.root_dir={notebook.parent}"]
    options += ["--expose-app-in-browser", "--ServerApp.port_retries=0"]
    homes = {f"JUPYTER_{kind}_DIR": str(notebook.parent / kind) for kind in ("CONFIG", "RUNTIME")}
    homes |= {f"JUPYTERLAB_{kind}_DIR": str(notebook.parent / kind) for kind in ("SETTINGS",)}
    with (notebook.parent / "lab.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options],
            **{"env": os.environ | homes, "stdout": log, "stderr": log},
        )
        try:
            _await_server(port)
            yield f"http://127.0.0.1:{port}/lab/tree/{notebook.name}?token=x&reset"
        finally:
            server.terminate()
            server.wait(30)


def _await_server(port: int) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token=x", timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise TimeoutError("JupyterLab did not start")


@pytest.mark.slow(27)
def test_a_lesson_can_be_run_edited_run_again_and_explored(lab: str, notebook: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if CHROMIUM is None:
        pytest.skip("needs Chromium, which is not installed")
    with playwright.sync_playwright() as driver:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        # So tall that all cells are drawn.
        page = browser.new_page(viewport={"width": 1280, "height": 9000})
        page.set_default_timeout(1000 * PATIENCE)
        page.goto(lab)
        page.wait_for_function(
            "() => window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel"
        )

        command(page, "notebook:run-all-cells")
        first = finished(page)
        run = notebook.parents[1] / "run"
        marker = (run / "run.json").stat().st_mtime_ns
        assert '"persons": 2' in (run / "run.json").read_text()

        edit(page, "persons = 2", "persons = 3")
        command(page, "notebook:run-all-cells")
        second = finished(page, after=max(first))
        assert '"persons": 3' in (run / "run.json").read_text()
        assert (run / "run.json").stat().st_mtime_ns > marker

        before = page.locator(PICTURE).first.get_attribute("src")
        page.locator(".widget-slider [role=slider]").first.press("ArrowRight")
        page.wait_for_function(
            "([selector, old]) => document.querySelector(selector)?.src !== old",
            arg=[PICTURE, before],
        )

        for latest in (max(second), max(second) + 1):  # the last cell twice more
            page.evaluate(
                "() => { const notebook = window.jupyterapp.shell.currentWidget.content;"
                " notebook.activeCellIndex = notebook.widgets.length - 1; }"
            )
            command(page, "notebook:run-cell")
            finished(page, after=latest, cells=1)
        assert '"persons": 3' in (run / "run.json").read_text()
        browser.close()


def command(page: Any, name: str) -> None:
    page.evaluate("name => window.jupyterapp.commands.execute(name)", name)


def edit(page: Any, old: str, new: str) -> None:
    """Replace a text in the cell that has it."""
    changed = page.evaluate(
        "([old, fresh]) => window.jupyterapp.shell.currentWidget.content.widgets.filter(cell =>"
        " cell.model.sharedModel.getSource().includes(old)).map(cell =>"
        " cell.model.sharedModel.setSource("
        "cell.model.sharedModel.getSource().replace(old, fresh))).length",
        [old, new],
    )
    assert changed == 1, f"{changed} cells have '{old}'"


def finished(page: Any, after: int = 0, cells: int = 0) -> list[int]:
    """Wait until all code cells, or so many, were run after an execution; their numbers."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        state = page.evaluate(STATE)
        assert not state["errors"], state["errors"]
        counts = [count or 0 for count in state["counts"]]
        done = sum(count > after for count in counts)
        if state["idle"] and counts and done >= (cells or len(counts)):
            return counts
        time.sleep(0.3)
    raise TimeoutError(f"cells were run as {state['counts']}, none after {after}")

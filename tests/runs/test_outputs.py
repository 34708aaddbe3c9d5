"""Outputs: what a run may replace, what it may not, and one run at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwl.errors import HwlError
from hwl.paths import PROJECT
from hwl.runs.folder import MARKER, RunFolder

Content = dict[str, bytes | str]


def make_run(folder: Path, kind: str, files: tuple[str, ...] = (), finished: bool = True) -> Path:
    """A run's folder with files that it made; an unfinished one has no list of them."""
    marker = {"kind": kind, "id": "1"} | ({"files": list(files)} if finished else {})
    write(folder / MARKER, json.dumps(marker))
    for name in files:
        write(folder / name, "made")
    return folder


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def snapshot(root: Path) -> Content:
    """Every file below a folder with its bytes, every link with what it names."""
    found: Content = {}
    for folder, folders, files in os.walk(root):
        for name in [*files, *folders]:
            path = os.path.join(folder, name)
            if os.path.islink(path):
                found[os.path.relpath(path, root)] = os.readlink(path)
            elif name in files:
                found[os.path.relpath(path, root)] = Path(path).read_bytes()
    return found


def link(path: Path, target: Path) -> Path:
    path.symlink_to(target)
    return path


# What is prepared in a folder, the output there, and why it is refused.
REFUSED: dict[str, tuple[Callable[[Path], object], str | Path, str]] = {
    "nothing": (lambda at: None, "", "'output' is empty"),
    "the working directory": (lambda at: None, ".", "is or holds the working directory"),
    "the root": (lambda at: None, "/", "is the root of the file system"),
    "the project": (lambda at: None, PROJECT, "is or holds the project"),
    "what holds the project": (lambda at: None, PROJECT.parent, "is or holds the project"),
    "the home folder": (lambda at: None, Path.home(), "is or holds the home folder"),
    "under a file": (lambda at: write(at / "file", "x"), "file/run", "cannot be used"),
    "a file": (lambda at: write(at / "run", "x"), "run", "is not a folder"),
    "a link": (lambda at: link(at / "run", make_run(at / "a", "evaluate")), "run", "is a link"),
    "a link to nothing": (lambda at: link(at / "run", at / "gone"), "run", "is a link"),
    "where nothing can be made": (lambda at: None, "/proc/hwl/run", "cannot be used"),
    "a name too long": (lambda at: None, "r" * 300, "cannot be used"),
    "a path too long": (lambda at: None, "r/" * 3000 + "run", "cannot be used"),
    "no path": (lambda at: None, "run\0", "cannot be used"),
    "a folder of files": (lambda at: write(at / "run/notes", "x"), "run", "files and no run"),
    "a folder of runs": (lambda at: make_run(at / "run/a", "evaluate"), "run", "files and no run"),
    "another kind": (lambda at: make_run(at / "run", "train"), "run", "of kind 'train', not"),
    "a broken marker": (lambda at: write(at / "run" / MARKER, "{"), "run", "files and no run"),
    "a foreign record": (lambda at: write(at / "run/run.json", "{}"), "run", "files and no run"),
    "an unfinished run": (
        *(lambda at: make_run(at / "run", "evaluate", finished=False), "run"),
        "holds an unfinished run",
    ),
    "a killed training": (
        *(lambda at: make_run(at / "run.partial", "train", finished=False), "run"),
        "what a killed run left of kind 'train'",
    ),
    "files where it is built": (lambda at: write(at / "run.partial/a", "x"), "run", "and no run"),
    "a file where it is built": (lambda at: write(at / "run.partial", "x"), "run", "not a folder"),
    "a place where runs are built": (lambda at: None, "run.partial", "unfinished runs"),
    "inside a run": (lambda at: make_run(at / "run", "evaluate"), "run/a", "is inside the run"),
    "its data": (lambda at: write(at / "data/a.json", "x"), "data", "holds 'data', which it reads"),
    "its weights' folder": (
        *(lambda at: make_run(at / "trained", "evaluate", ("best.safetensors",)), "trained"),
        "is or holds 'weights', which it reads",
    ),
    "its weights' parent": (
        *(lambda at: make_run(at / "up/trained", "evaluate", ("best.safetensors",)), "up"),
        "is or holds 'weights', which it reads",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_output_is_refused_in_one_line_and_nothing_is_touched(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare, output, message = REFUSED[what]
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = snapshot(tmp_path)
    weights = next(tmp_path.rglob("best.safetensors"), "")

    with pytest.raises(HwlError, match=message) as told:
        run = RunFolder("evaluate", output, {"data": "data", "weights": str(weights)})
        run.begin()

    assert "\n" not in str(told.value) and len(str(told.value)) < 1000
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("kind", ["evaluate", "train"])
def test_new_empty_and_older_outputs_of_the_same_kind_are_taken(kind: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    make_run(tmp_path / "older", kind, ("a.txt",))
    make_run(tmp_path / "killed.partial", kind, finished=False)

    for name in ("new", "empty", "older", "killed", "deep/er"):
        run = RunFolder(kind, tmp_path / name, {})
        write(run.begin() / "b.txt", "b")
        run.publish()

        assert set(snapshot(tmp_path / name)) == {MARKER, "b.txt"}


def test_what_a_killed_training_left_stays_for_the_next(tmp_path: Path) -> None:
    write(make_run(tmp_path / "run.partial", "train", finished=False) / "checkpoint.pt", "x")

    assert (RunFolder("train", tmp_path / "run", {}).begin() / "checkpoint.pt").exists()


def test_files_that_no_run_made_move_on_into_the_new_run(tmp_path: Path) -> None:
    make_run(tmp_path / "run", "evaluate", ("a.txt", "sub/a.txt"))
    write(tmp_path / "run/notes.txt", "mine")
    write(tmp_path / "run/sub/notes.txt", "mine too")

    run = RunFolder("evaluate", tmp_path / "run", {})
    write(run.begin() / "b.txt", "b")
    run.publish()

    found = set(snapshot(tmp_path / "run"))
    assert found == {MARKER, "b.txt", "notes.txt", "sub/notes.txt"}
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_file_that_cannot_move_on_after_a_kill_stays_aside(tmp_path: Path) -> None:
    for name in ("run", "run.partial-old"):
        write(make_run(tmp_path / name, "evaluate", ("a.txt",)) / "notes.txt", name)

    RunFolder("evaluate", tmp_path / "run", {}).begin()

    assert (tmp_path / "run/notes.txt").read_text() == "run"
    assert set(snapshot(tmp_path / "run.partial-old")) == {"notes.txt"}


def test_a_file_in_the_way_is_named_and_both_are_kept(tmp_path: Path) -> None:
    make_run(tmp_path / "run", "evaluate", ("a.txt",))
    write(tmp_path / "run/b.txt", "mine")

    run = RunFolder("evaluate", tmp_path / "run", {})
    write(run.begin() / "b.txt", "new")
    with pytest.raises(HwlError, match=r"run/b\.txt was made by no run and is in the way"):
        run.publish()

    assert (tmp_path / "run/b.txt").read_text() == "mine"
    assert (tmp_path / "run.partial/b.txt").read_text() == "new"


# Trees of files, links, runs and what killed runs left, with names that meet each other.
NAMES = st.sampled_from(["a", "b", "a.partial", "a.partial-old", "b.partial"])
KINDS = st.sampled_from(["evaluate", "evaluate", "evaluate", "train"])
FILE = st.tuples(st.just("file"), st.sampled_from(["x", "y"]))
LINK = st.tuples(st.just("link"), st.sampled_from(["a", "../a", "../b", "gone"]))
RUN = st.tuples(
    *(st.just("run"), KINDS, st.booleans()),
    st.sets(st.sampled_from(["m", "n/m"])),  # made by it
    st.sets(st.sampled_from(["notes", "n/notes", "m2"])),  # by somebody else
)
TREE = st.dictionaries(
    NAMES,
    st.recursive(
        FILE | LINK | RUN, lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=8
    ),
    max_size=5,
)


@st.composite
def trees(draw: st.DrawFn) -> dict:
    """A tree in which runs more often are where another one goes, and of one kind."""
    tree = draw(TREE)
    for name in draw(st.sets(st.sampled_from(["a", "a.partial", "a.partial-old"]))):
        _, kind, _, made, others = draw(RUN)
        tree[name] = ("run", kind, name != "a.partial", made, others)
    return tree


def plant(folder: Path, tree: dict, own: set[str], root: Path) -> None:
    """Make a drawn tree; `own` collects what runs made."""
    for name, node in tree.items():
        path = folder / name
        if isinstance(node, dict):
            path.mkdir(exist_ok=True)
            plant(path, node, own, root)
        elif node[0] == "file":
            write(path, node[1])
        elif node[0] == "link":
            path.symlink_to(node[1])
        else:
            _, kind, finished, made, others = node
            make_run(path, kind, tuple(made), finished)
            for other in others:
                write(path / other, "somebody's")
            own |= {str((path / file).relative_to(root)) for file in {*made, MARKER}}


@given(
    tree=trees(),
    output=st.sampled_from(["a", "a", "a", "b", "a/b", "a/a/b", "a.partial", "."]),
    kind=KINDS,
    files=st.sets(st.sampled_from(["m", "m2", "n", "notes"])),
    fails=st.sampled_from([False, False, True]),
)
@settings(max_examples=150)
def test_whatever_is_there_no_run_loses_a_file_that_runs_did_not_make(
    tmp_path_factory: pytest.TempPathFactory,
    tree: dict,
    output: str,
    kind: str,
    files: set[str],
    fails: bool,
) -> None:
    root = tmp_path_factory.mktemp("tree")
    own: set[str] = set()
    plant(root, tree, own, root)
    before = snapshot(root)

    run = None
    try:
        run = RunFolder(kind, root / output, {})
        folder = run.begin()
        for name in files:
            write(folder / name, "new")
        if fails:
            run.discard()
        else:
            run.publish()
    except HwlError:
        if run is not None:
            run.close()

    after = snapshot(root)
    place = os.path.normpath(output)
    marker = before.get(f"{place}.partial/{MARKER}", b"{}")
    killed = isinstance(marker, bytes) and json.loads(marker).get("kind") == kind
    for name, content in before.items():
        if name in own and name.startswith((f"{place}/", f"{place}.partial")):
            continue
        if name.startswith(f"{place}.partial/") and killed:
            continue  # all there is the killed run's own
        # What was moved aside when an earlier run was killed comes back.
        back = name.replace(f"{place}.partial-old/", f"{place}/", 1)
        assert content in (after.get(name), after.get(back)), name


def held(folder: Path) -> subprocess.Popen:
    """Another process that has begun a run into a folder."""
    code = (
        "import sys, time; from hwl.runs.folder import RunFolder\n"
        "run = RunFolder('evaluate', sys.argv[1], {}); run.begin()\n"
        "print('begun', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None and other.stdout.readline() == "begun\n"
    return other


def test_a_second_run_into_an_output_is_told_who_makes_it_and_a_kill_frees_it(
    tmp_path: Path,
) -> None:
    other = held(tmp_path / "run")
    before = snapshot(tmp_path)
    try:
        with pytest.raises(HwlError) as told:
            RunFolder("evaluate", tmp_path / "run", {}).begin()
    finally:
        other.kill()
        other.wait()

    host = os.uname().nodename
    assert f"is being made by process {other.pid} on {host} since 20" in str(told.value)
    assert snapshot(tmp_path) == before
    RunFolder("evaluate", tmp_path / "run", {}).begin()


def test_two_runs_of_one_process_do_not_share_an_output(tmp_path: Path) -> None:
    first = RunFolder("evaluate", tmp_path / "run", {})
    first.begin()

    with pytest.raises(HwlError, match=f"is being made by process {os.getpid()} on"):
        RunFolder("evaluate", tmp_path / "run", {}).begin()

    first.close()
    RunFolder("evaluate", tmp_path / "run", {}).begin()

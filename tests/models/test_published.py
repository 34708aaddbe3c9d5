"""Published weights: which file a source means, and what comes of a bad one; no model is used."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pooch
import pytest
import safetensors.torch
import torch

from hwl import notebook as notebooks
from hwl.errors import HwlError
from hwl.evaluation.config import EvaluateConfig
from hwl.models import MODELS
from hwl.models.published import PUBLISHED, fetch_weights, hash_prefix
from hwl.paths import PROJECT

CONTENT = b"\x80" + b"weights" * 1000  # begins as a pickle does
NAMED = f"pose-{hashlib.sha256(CONTENT).hexdigest()[:8]}_20221016.pth"
HASHES = {
    "mobilenetv2": "55a04c35",
    "shufflenetv2": "51fb931e",
    "vipnas_mbv3": "e0987441",
    "litehrnet18": "6bace359",
    "litehrnet30": "4176555b",
}


class Server(ThreadingHTTPServer):
    """Serves its content under every name."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.asked = 0
        self.content = CONTENT
        self.tells_length = True
        self.sent: int | None = None  # bytes after which the connection closes


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked += 1
        self.send_response(200)
        if self.server.tells_length:
            self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content[: self.server.sent])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of fetched weights, in place of the user's own."""
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / project)
    return tmp_path / "hwl" / "weights"


def files_in(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file()]


def test_openmmlab_has_weights_of_the_papers_peers() -> None:
    assert PUBLISHED.keys() == HASHES.keys() <= MODELS.keys()


@pytest.mark.parametrize("model", HASHES)
def test_a_published_name_tells_its_hash(model: str) -> None:
    assert hash_prefix(PUBLISHED[model].path) == HASHES[model]


def test_a_name_in_torch_hubs_style_tells_its_hash() -> None:
    assert hash_prefix("resnet18-f37072fd.pth") == "f37072fd"


@pytest.mark.parametrize(
    "name", ["best.pth", "pose-20221016.pth", "pose-55a04c3_20221016.pth", "a-55a04c35/best.pth"]
)
def test_a_name_without_a_hash_tells_none(name: str) -> None:
    assert hash_prefix(name) is None


@pytest.mark.parametrize("model", HASHES)
def test_openmmlab_means_the_file_of_the_model_with_its_hash(
    model: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fetch(url: str, target: Path, sha256_prefix: str | None = None, **_: object) -> Path:
        asked.append((url, sha256_prefix))
        return target

    monkeypatch.setattr("hwl.models.published.fetch", fetch)

    path = fetch_weights("openmmlab", model)

    ((url, prefix),) = asked
    assert url == f"https://download.openmmlab.com/mmpose/{PUBLISHED[model].path}"
    assert prefix == HASHES[model]
    assert path == cache / Path(PUBLISHED[model].path).name


def test_the_authors_weights_are_said_not_to_be_published() -> None:
    with pytest.raises(HwlError, match=r"'ours' are not published by OpenMMLab: train .* or give"):
        fetch_weights("openmmlab", "ours")


@pytest.mark.parametrize("model", ["", "vipnas"])
def test_openmmlab_without_one_of_its_models_is_refused_with_the_five(model: str) -> None:
    with pytest.raises(HwlError) as refusal:
        fetch_weights("openmmlab", model)

    assert f"one of {', '.join(HASHES)}; it is '{model}'" in str(refusal.value)


@pytest.mark.parametrize("source", ["runs/best.pth", "/best.safetensors", "openmmlab/best.pth"])
def test_a_path_is_left_as_it_is(source: str) -> None:
    assert fetch_weights(source, "ours") == Path(source)


@pytest.mark.parametrize("name", [NAMED, "best.pth", "best.safetensors?download=1"])
def test_a_url_is_fetched_once_and_keeps_its_name(server: Server, name: str) -> None:
    paths = [fetch_weights(f"{server.url}/{name}", "") for _ in range(2)]

    assert paths[0] == paths[1] and server.asked == 1
    assert paths[0].name == name.partition("?")[0]
    assert paths[0].read_bytes() == CONTENT


def test_files_of_one_name_from_two_urls_are_kept_apart(server: Server) -> None:
    first = fetch_weights(f"{server.url}/first/best.pth", "")
    second = fetch_weights(f"{server.url}/second/best.pth", "")

    assert first != second and server.asked == 2


@pytest.mark.parametrize("query", ["", "?download=1"])
def test_a_wrong_hash_is_told_and_leaves_nothing(server: Server, cache: Path, query: str) -> None:
    url = f"{server.url}/pose-00000000_20221016.pth{query}"

    with pytest.raises(HwlError) as refusal:
        fetch_weights(url, "")

    assert str(refusal.value).startswith(f"what came from {url} has the sha256 ")
    assert str(refusal.value).endswith("not 00000000 and was deleted: run again")
    assert files_in(cache) == []


def test_a_broken_connection_is_told_and_gives_no_weights(server: Server, cache: Path) -> None:
    server.sent = 10

    with pytest.raises(HwlError, match=rf"{NAMED} broke off .*run again to resume"):
        fetch_weights(f"{server.url}/{NAMED}", "")

    assert files_in(cache) == [f"{NAMED}.part"]


@pytest.mark.parametrize("left", [b"", CONTENT[:10], b"<!doctype html>"])
def test_a_damaged_cached_file_is_said_and_fetched_again(
    left: bytes, server: Server, cache: Path, capsys: pytest.CaptureFixture
) -> None:
    fetch_weights(f"{server.url}/{NAMED}", "")
    (cache / NAMED).write_bytes(left)

    path = fetch_weights(f"{server.url}/{NAMED}", "")

    assert path.read_bytes() == CONTENT and server.asked == 2
    assert capsys.readouterr().out.startswith(f"{path} has the sha256 ")


def a_checkpoint(kind: str) -> bytes:
    buffer = io.BytesIO()
    if kind == "torch":
        torch.save({"weight": torch.zeros(1000)}, buffer)
        return buffer.getvalue()
    return safetensors.torch.save({"weight": torch.zeros(1000)})


@pytest.mark.parametrize("kind", ["torch", "safetensors"])
def test_a_whole_file_whose_hash_nobody_tells_is_taken(kind: str, server: Server) -> None:
    server.content = a_checkpoint(kind)

    assert fetch_weights(f"{server.url}/best.pth", "").read_bytes() == server.content


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><html>Sign in</html>", "is a web page or text, no weights file"),
        (b'{"error": "gone"}', "is a web page or text, no weights file"),
        (b"version https://git-lfs.github.com/spec/v1", "is no weights file"),
        (a_checkpoint("torch")[:-100], "is cut off"),
        (a_checkpoint("safetensors")[:-100], "is no whole safetensors file"),
    ],
)
def test_what_is_no_weights_file_is_not_kept(
    content: bytes, fault: str, server: Server, cache: Path
) -> None:
    server.content, server.tells_length = content, False
    url = f"{server.url}/best.pth"

    with pytest.raises(HwlError, match=f"what came from {url} {fault}.* and was deleted"):
        fetch_weights(url, "")

    assert files_in(cache) == []


def test_a_page_that_an_older_version_kept_is_fetched_again(
    server: Server, capsys: pytest.CaptureFixture
) -> None:
    path = fetch_weights(f"{server.url}/best.pth", "")
    path.write_text("<html>Sign in</html>")

    assert fetch_weights(f"{server.url}/best.pth", "").read_bytes() == CONTENT
    assert "is a web page or text, no weights file: fetched again" in capsys.readouterr().out


@pytest.mark.parametrize("end", ["", "/", "/..", "/folder/", "/download"])
def test_a_url_without_a_files_name_is_refused(server: Server, end: str) -> None:
    with pytest.raises(HwlError, match="names no weights file: fetch it by hand"):
        fetch_weights(f"{server.url}{end}", "")

    assert server.asked == 0


@pytest.mark.parametrize("url", ["http://[half/best.pth", "http://127.0.0.1:1/ä.pth"])
def test_what_is_no_url_is_told(url: str) -> None:
    with pytest.raises(HwlError, match=r"is no URL .*: fetch the file by hand"):
        fetch_weights(url, "")


@pytest.mark.parametrize("source", ["openmmlab", "https://example.org/best.pth"])
def test_a_notebook_takes_a_published_source_for_no_path(source: str) -> None:
    values = {"output": "/a", "weights": source, "model": "litehrnet18", "data": "/data"}

    built = notebooks.parameters(EvaluateConfig, values)

    assert built.weights == source


def test_a_notebook_takes_the_word_for_a_path_where_no_weights_are_meant() -> None:
    values = {"output": "/a", "weights": "/b.pth", "data": "openmmlab"}

    built = notebooks.parameters(EvaluateConfig, values)

    assert built.data == str(PROJECT / "openmmlab")

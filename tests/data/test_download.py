"""The download helper against a small HTTP server on this machine: no model is used."""

import hashlib
import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.pool import ThreadPool
from pathlib import Path

import pytest

from hwl import fetch as fetch_module
from hwl.data import download
from hwl.data.download import Download, describe, download_coco, plan
from hwl.errors import HwlError
from hwl.fetch import fetch

from .zips import make_zip, names_in

CONTENT = bytes(range(256)) * 4096  # 1 MiB
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves ``files`` by path, with Range; the last four attributes make it misbehave."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.folder = folder  # where ``get`` puts what it fetches
        self.files = {"/file.bin": CONTENT}
        self.ranges: list[str | None] = []  # the Range header of every request so far
        self.drop_after: int | None = None  # bytes of a body after which the connection closes
        self.resumes = True
        self.tells_length = True
        self.shift = 0  # bytes by which the answer to a Range begins late

    def get(self, **hashes: str) -> bytes:
        """What ``fetch`` makes of ``/file.bin``."""
        return fetch(f"{self.url}/file.bin", self.folder / "file.bin", **hashes).read_bytes()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, asked = self.server, self.headers["Range"]
        server.ranges.append(asked)
        content = server.files.get(self.path)
        start = int(asked[len("bytes=") : -1]) + server.shift if asked and server.resumes else 0
        if content is None or start >= len(content):
            self.send_error(404 if content is None else 416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if server.tells_length:
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:][: server.drop_after])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running
        running.shutdown()


def test_fetch_gives_the_file_its_name_and_leaves_no_part(server: Server) -> None:
    server.folder /= "new"

    assert server.get(md5=MD5) == CONTENT
    assert names_in(server.folder) == ["file.bin"]


def test_fetch_accepts_the_hash_prefix_of_published_weights(server: Server) -> None:
    assert server.get(sha256_prefix=hashlib.sha256(CONTENT).hexdigest()[:8]) == CONTENT


def test_fetch_does_not_fetch_what_is_there(server: Server) -> None:
    (server.folder / "file.bin").write_bytes(CONTENT)

    server.get(md5=MD5)

    assert server.ranges == []


def test_of_two_that_fetch_a_file_at_once_one_fetches_and_the_other_waits(server: Server) -> None:
    with ThreadPool(2) as pool:
        found = pool.map(lambda _: server.get(md5=MD5), range(2))

    assert found == [CONTENT, CONTENT] and len(server.ranges) == 1


def test_fetch_refuses_and_keeps_a_wrong_file_of_the_user(server: Server) -> None:
    (server.folder / "file.bin").write_bytes(b"mine")

    with pytest.raises(HwlError, match=r"file\.bin has the md5 .*remove it"):
        server.get(md5=MD5)

    assert (server.folder / "file.bin").read_bytes() == b"mine"


def test_broken_connection_is_told_and_keeps_the_part(server: Server) -> None:
    server.drop_after = 300_000

    with pytest.raises(HwlError, match=r"broke off .*run again to resume"):
        server.get(md5=MD5)

    assert names_in(server.folder) == ["file.bin.part"]
    assert (server.folder / "file.bin.part").read_bytes() == CONTENT[:300_000]


@pytest.mark.parametrize("size", [300_000, len(CONTENT)])
def test_fetch_resumes_at_the_last_byte_of_the_part(server: Server, size: int) -> None:
    (server.folder / "file.bin.part").write_bytes(CONTENT[:size])

    assert server.get(md5=MD5) == CONTENT
    assert server.ranges == [f"bytes={size - 1}-"]


@pytest.mark.parametrize("fault", [{"resumes": False}, {"shift": 1}, {"shift": len(CONTENT)}])
def test_fetch_starts_over_where_it_cannot_resume(server: Server, fault: dict[str, int]) -> None:
    (server.folder / "file.bin.part").write_bytes(b"stale" * 100)
    vars(server).update(fault)

    assert server.get(md5=MD5) == CONTENT


@pytest.mark.parametrize("wrong", [{"md5": "0" * 32}, {"sha256_prefix": "0" * 8}])
def test_wrong_hash_deletes_what_came(server: Server, wrong: dict[str, str]) -> None:
    with pytest.raises(HwlError, match=r"file\.bin has the (md5|sha256) .* was deleted"):
        server.get(**wrong)

    assert names_in(server.folder) == []


@pytest.mark.parametrize("tells_length", [True, False])
def test_a_file_longer_than_it_may_be_is_refused_and_deleted(
    server: Server, tells_length: bool
) -> None:
    server.tells_length = tells_length

    with pytest.raises(HwlError, match=r"sends more than .* GB, .* deleted: check the URL"):
        fetch(f"{server.url}/file.bin", server.folder / "file.bin", limit=len(CONTENT) - 1)

    assert names_in(server.folder) == []


def test_a_length_beyond_the_limit_is_refused_before_all_has_come(server: Server) -> None:
    server.drop_after = 1000

    with pytest.raises(HwlError, match="sends more than"):
        fetch(f"{server.url}/file.bin", server.folder / "file.bin", limit=len(CONTENT) - 1)


def test_a_file_as_long_as_it_may_be_is_taken(server: Server) -> None:
    server.tells_length = False

    fetch(f"{server.url}/file.bin", server.folder / "file.bin", limit=len(CONTENT))

    assert names_in(server.folder) == ["file.bin"]


def test_missing_page_is_told_with_its_url(server: Server) -> None:
    server.files.clear()

    with pytest.raises(HwlError, match=rf"{server.url}/file\.bin answers HTTP 404"):
        server.get()


def test_unreachable_server_is_told_with_its_url(server: Server) -> None:
    server.server_close()

    with pytest.raises(HwlError, match=rf"cannot reach {server.url}/file\.bin .*check the network"):
        server.get()


def test_fetch_needs_room_for_the_file(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "free_space", lambda folder: len(CONTENT) - 1)

    with pytest.raises(HwlError, match="GB needed: make room"):
        server.get()

    assert (server.folder / "file.bin.part").stat().st_size == 0


def test_folder_that_cannot_be_made_is_told(server: Server) -> None:
    server.folder /= "file"
    server.folder.touch()

    with pytest.raises(HwlError, match=r"cannot write .*/file/file\.bin"):
        server.get()


@pytest.fixture
def coco(server: Server, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder, and a server with a COCO of two images and one annotation file."""
    downloads = []
    for path, names, members, images in [
        ("zips/val2017", ("val2017/1.jpg", "val2017/2.jpg"), ("val2017",), 2),
        ("annotations/keypoints", ("annotations/val.json",), ("annotations/val.json",), 0),
    ]:
        content = make_zip(server.folder / "made.zip", *names).read_bytes()
        server.files[f"/{path}.zip"] = content
        md5 = hashlib.md5(content).hexdigest()
        downloads.append(Download(path, len(content), md5, members, images))
    monkeypatch.setattr(download, "HOST", server.url)
    monkeypatch.setattr(download, "SPLITS", {"val2017": tuple(downloads)})
    (server.folder / "coco").mkdir()
    return server.folder / "coco"


def test_plan_names_each_archive_once() -> None:
    names = [Path(archive.url).name for archive in plan(["val2017", "train2017"])]

    assert names == ["annotations_trainval2017.zip", "val2017.zip", "train2017.zip"]


def test_plan_refuses_an_unknown_split() -> None:
    with pytest.raises(HwlError, match="no split 'val2014': choose from train2017"):
        plan(["val2014"])


def test_describe_tells_sizes_and_where_the_detected_boxes_go(tmp_path: Path) -> None:
    table = describe(tmp_path, ["train2017", "val2017"])

    assert "http://images.cocodataset.org/zips/train2017.zip" in table
    assert "To fetch: 20.405 GB" in table
    assert f"{tmp_path}/person_detection_results/COCO_val2017_detections_AP_H_56" in table


def test_part_counts_as_fetched(coco: Path) -> None:
    keypoints = plan(["val2017"])[0]
    (coco / "keypoints.zip.part").write_bytes(b"x" * (keypoints.size - 1))

    assert keypoints.bytes_to_fetch(coco) == 1


@pytest.mark.parametrize("zips", [[], ["keypoints.zip", "val2017.zip"]])
def test_download_coco_unpacks_all_and_keeps_zips_if_told(coco: Path, zips: list[str]) -> None:
    download_coco(coco, ["val2017"], yes=True, keep_zips=bool(zips))

    files = ["annotations/val.json", "val2017/1.jpg", "val2017/2.jpg", *zips]
    assert names_in(coco) == sorted(["annotations", "val2017", *files])


def test_download_coco_leaves_what_is_whole_alone(coco: Path, server: Server) -> None:
    download_coco(coco, ["val2017"], yes=True)
    server.ranges.clear()

    download_coco(coco, ["val2017"], yes=True)

    assert server.ranges == []


def test_an_archive_that_was_there_before_is_kept(
    coco: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    (coco / "val2017.zip").write_bytes(server.files["/zips/val2017.zip"])

    download_coco(coco, ["val2017"], yes=True)

    assert [path.name for path in coco.glob("*.zip")] == ["val2017.zip"]
    assert "val2017.zip was there before and is kept" in capsys.readouterr().out


def test_download_coco_refuses_an_incomplete_folder(coco: Path, server: Server) -> None:
    (coco / "val2017").mkdir()

    with pytest.raises(HwlError, match="val2017 has 0 of 2 images: move it away"):
        download_coco(coco, ["val2017"], yes=True)

    assert server.ranges == []


def test_no_fetches_nothing(coco: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda question: "n")

    download_coco(coco, ["val2017"])

    assert server.ranges == []


def test_asking_needs_a_terminal(coco: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())

    with pytest.raises(HwlError, match="no terminal"):
        download_coco(coco, ["val2017"])


def test_room_is_needed_for_archive_and_images(
    coco: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [archive.size for archive in plan(["val2017"])]
    monkeypatch.setattr(fetch_module, "free_space", lambda folder: sum(sizes) + max(sizes) - 1)

    with pytest.raises(HwlError, match="make room"):
        download_coco(coco, ["val2017"], yes=True)

    assert server.ranges == []

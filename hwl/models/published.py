"""Weights that others publish: OpenMMLab's of the five peers by name, anybody's by URL."""

from __future__ import annotations

import hashlib
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import pooch
import safetensors

from hwl.errors import HwlError
from hwl.fetch import fetch, hash_fault

OPENMMLAB = "openmmlab"  # the source that stands for PUBLISHED
HOST = "https://download.openmmlab.com/mmpose"
TOPDOWN = "v1/body_2d_keypoint/topdown_heatmap/coco"


@dataclass(frozen=True)
class Published:
    """A weights file of OpenMMLab, `HOST/path`, for 17 keypoints at 256x192.

    ``ap`` is the AP in percent that mmpose's model zoo gives for it: COCO val2017, detected boxes,
    flip test.
    """

    path: str
    ap: float

    @property
    def url(self) -> str:
        """Where the file is published."""
        return f"{HOST}/{self.path}"


PUBLISHED = {
    "mobilenetv2": Published(
        f"{TOPDOWN}/td-hm_mobilenetv2_8xb64-210e_coco-256x192-55a04c35_20221016.pth", 64.8
    ),
    "shufflenetv2": Published(
        f"{TOPDOWN}/td-hm_shufflenetv2_8xb64-210e_coco-256x192-51fb931e_20221014.pth", 60.2
    ),
    "vipnas_mbv3": Published(
        f"{TOPDOWN}/td-hm_vipnas-mbv3_8xb64-210e_coco-256x192-e0987441_20221010.pth", 70.0
    ),
    "litehrnet18": Published(
        "top_down/litehrnet/litehrnet18_coco_256x192-6bace359_20211230.pth", 64.2
    ),
    "litehrnet30": Published(
        "top_down/litehrnet/litehrnet30_coco_256x192-4176555b_20210626.pth", 67.6
    ),
}
ZIP, PICKLE = b"PK\x03\x04", b"\x80"  # first bytes of what torch writes
START = 64  # bytes that tell a file's kind
# OpenMMLab's "-55a04c35_20221016.pth" and torch hub's "-55a04c35.pth"; a date alone is no hash.
HASH = re.compile(r"-(?!20\d{6}\.)([0-9a-f]{8})(?:_\d{8})?\.pth$")


def hash_prefix(name: str) -> str | None:
    """The first eight hex digits of a file's SHA-256 where its name tells them, else None."""
    found = HASH.search(name)
    return found[1] if found else None


def is_published(source: str) -> bool:
    """Whether a source of weights is "openmmlab" or a URL; else it is a path on this machine."""
    return source == OPENMMLAB or source.startswith(("http://", "https://"))


def fetch_weights(source: str, model: str) -> Path:
    """The local file of a source of weights, fetched once into the user's cache folder.

    Args:
        source: a path, which is returned as it is, a URL, or "openmmlab".
        model: the model whose weights "openmmlab" means, a key of PUBLISHED; else not used.

    Raises:
        HwlError: OpenMMLab has no weights of the model, the URL names no file, or the file cannot
            be fetched or is not the one that its name's hash says.
    """
    if not is_published(source):
        return Path(source)
    url = _published_url(model) if source == OPENMMLAB else source
    try:
        target = _cached(url)
        prefix = hash_prefix(target.name)
        # Of the cache, not of the user: what is wrong there is fetched again.
        if target.exists() and (fault := hash_fault(target, prefix) or weights_fault(target)):
            print(f"{target} {fault}: fetched again")
            target.unlink()
        return fetch(url, target, sha256_prefix=prefix, fault_of=weights_fault)
    except ValueError as error:  # urllib's, of what it cannot read as a URL
        raise HwlError(f"{url} is no URL ({error}): fetch the file by hand and give it") from error


def weights_fault(path: Path) -> str | None:
    """Why a downloaded file is no whole weights file, in words that follow its name; else None.

    Told by its first and last bytes: a login page, nothing, or the half of a file whose length the
    server did not tell.
    """
    with path.open("rb") as file:
        start = file.read(START)
    if not start:
        return "is empty"
    if start.lstrip().startswith((b"<", b"{")):
        return "is a web page or text, no weights file"
    if start.startswith(ZIP):  # of torch.save
        return None if zipfile.is_zipfile(path) else "is cut off"
    if start.startswith(PICKLE):  # of an older torch.save
        return None
    if start[8:9] != b"{":  # of safetensors' header, after its length
        return "is no weights file"
    try:
        with safetensors.safe_open(path, framework="np"):
            return None
    except safetensors.SafetensorError as error:
        return f"is no whole safetensors file ({error})"


def _published_url(model: str) -> str:
    if model == "ours":
        raise HwlError(
            "the authors' weights of model 'ours' are not published by OpenMMLab: train the "
            "model or give a weights file"
        )
    if model not in PUBLISHED:
        raise HwlError(
            f"weights '{OPENMMLAB}' need `model` to be one of {', '.join(PUBLISHED)}; "
            f"it is '{model}'"
        )
    return PUBLISHED[model].url


def _cached(url: str) -> Path:
    name = PurePosixPath(urlsplit(url).path).name
    if not PurePosixPath(name).suffix:  # ".." has none either
        raise HwlError(f"{url} names no weights file: fetch it by hand and give the file")
    folder = pooch.os_cache("hwl") / "weights"
    # Many a file is called best.pth: where no hash tells them apart, each URL has its own folder.
    if hash_prefix(name) is None:
        folder /= hashlib.sha256(url.encode()).hexdigest()[:8]
    return folder / name

"""Exports are kept, and made again when anything that they depend on changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hwl.inference import export
from hwl.inference.export import cached_onnx
from hwl.models import Description, PoseNet
from hwl.skeletons import COCO

SIZE = (64, 64)


def crops(count: int) -> Tensor:
    return torch.randn(count, 3, *SIZE, generator=torch.Generator().manual_seed(3))


def test_an_export_is_kept_until_the_weights_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ordinary: Callable[..., PoseNet]
) -> None:
    monkeypatch.setattr(export, "CACHE", tmp_path)
    made: list[PoseNet] = []
    monkeypatch.setattr(export, "onnx_bytes", lambda model, *_: made.append(model) or b"file")
    model = ordinary("ours")

    cached_onnx(model, SIZE, None)
    cached_onnx(model, SIZE, None)
    assert len(made) == 1
    with torch.no_grad():
        model.head.final_layer.bias.add_(1)
    cached_onnx(model, SIZE, None)
    cached_onnx(model, SIZE, crops(2))
    cached_onnx(model, (64, 96), None)

    assert len(made) == 4


def test_a_broken_cached_file_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ordinary: Callable[..., PoseNet]
) -> None:
    monkeypatch.setattr(export, "CACHE", tmp_path)
    monkeypatch.setattr(export, "onnx_bytes", lambda *_: b"the file")
    model = ordinary("ours")
    cached_onnx(model, SIZE, None)
    (path,) = tmp_path.glob("*.onnx")

    for damaged in (b"", b"the fi", b"the file\0", b"thf file"):
        path.write_bytes(damaged)

        assert cached_onnx(model, SIZE, None) == b"the file"
        assert path.read_bytes() == b"the file" and list(tmp_path.glob("*.onnx")) == [path]


@pytest.mark.parametrize("what", ["hwl/models", "nncf", "description"])
def test_an_export_is_made_again_when_what_it_depends_on_changes(
    what: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ordinary: Callable[..., PoseNet],
) -> None:
    monkeypatch.setattr(export, "CACHE", tmp_path)
    made: list[PoseNet] = []
    monkeypatch.setattr(export, "onnx_bytes", lambda model, *_: made.append(model) or b"file")
    model = ordinary("ours", 17)
    cached_onnx(model, SIZE, crops(2))

    if what == "hwl/models":
        read = Path.read_bytes
        monkeypatch.setattr(
            Path, "read_bytes", lambda path: read(path) + b"#" * (path.name == "blocks.py")
        )
    elif what == "nncf":
        version = export.importlib.metadata.version
        monkeypatch.setattr(
            export.importlib.metadata,
            "version",
            lambda name: "99" if name == "nncf" else version(name),
        )
    else:
        model.describe(Description(skeleton=COCO))
    cached_onnx(model, SIZE, crops(2))
    cached_onnx(model, SIZE, crops(2))

    assert len(made) == 2


def test_the_oldest_exports_go_when_there_are_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ordinary: Callable[..., PoseNet]
) -> None:
    monkeypatch.setattr(export, "CACHE", tmp_path)
    monkeypatch.setattr(export, "KEPT", 2)
    monkeypatch.setattr(export, "onnx_bytes", lambda *_: b"file")
    model = ordinary("ours")

    for height in (32, 64, 96):
        cached_onnx(model, (height, 64), None)

    assert len(list(tmp_path.glob("*.onnx"))) == 2

"""Checkpoints: whole or not at all, and read without running what is in them."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch

from hwl.errors import HwlError
from hwl.training.checkpoints import SEALED, _Hashed, load_checkpoint, save_checkpoint


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.pt"


class Code:
    """Unpickled with trust, it creates a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return open, (str(self.marker), "w")


def test_tensors_and_plain_values_come_back(path: Path) -> None:
    state = {
        "model": {"weight": torch.randn(3, 4), "count": torch.tensor(7)},
        "random": torch.get_rng_state(),
        "position": [12, 3, 0, 0.125],
        "history": [{"epoch": 1, "AP": 0.5}],
        "scaler": None,
    }

    save_checkpoint(path, state)
    loaded = load_checkpoint(path)

    torch.testing.assert_close(loaded["model"], state["model"], rtol=0, atol=0)
    assert torch.equal(loaded["random"], state["random"])
    for key in ("position", "history", "scaler"):
        assert loaded[key] == state[key]


def test_a_new_checkpoint_replaces_the_old_one_and_leaves_nothing_beside_it(path: Path) -> None:
    save_checkpoint(path, {"step": 1})
    save_checkpoint(path, {"step": 2})

    assert load_checkpoint(path) == {"step": 2}
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("function", ["torch.save", "os.fsync"])
def test_a_write_that_fails_leaves_the_old_checkpoint(
    function: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(path, {"step": 1})

    def disk_full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(function, disk_full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, {"step": 2})

    assert load_checkpoint(path) == {"step": 1}


def test_a_disk_that_fills_while_tensors_are_written_is_what_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Small(_Hashed):
        def write(self, data: bytes | memoryview) -> int:
            if self.file.tell() + len(data) > 2000:
                raise OSError(28, "No space left on device")
            return super().write(data)

    monkeypatch.setattr("hwl.training.checkpoints._Hashed", Small)
    with pytest.raises(OSError, match="No space left"):  # and not torch's error about positions
        save_checkpoint(path, {"weight": torch.randn(1000)})


def test_the_folder_is_made(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a/b/checkpoint.pt", {"step": 1})

    assert load_checkpoint(tmp_path / "a/b/checkpoint.pt") == {"step": 1}


def test_a_checkpoint_with_code_is_refused_and_the_code_does_not_run(
    path: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "code-ran"
    save_checkpoint(path, {"step": Code(marker)})  # with its checksum, which anybody can compute

    with pytest.raises(HwlError, match=r"checkpoint\.pt is not a whole checkpoint"):
        load_checkpoint(path)

    assert not marker.exists()
    content = io.BytesIO(path.read_bytes()[:-SEALED])
    torch.load(content, weights_only=False)["step"].close()
    assert marker.exists()  # it would have run


def test_a_truncated_checkpoint_is_named_wherever_it_ends(path: Path) -> None:
    save_checkpoint(path, {"weight": torch.arange(100.0), "step": 1})
    whole = path.read_bytes()

    for end in range(0, len(whole), 37):
        path.write_bytes(whole[:end])
        with pytest.raises(HwlError, match=r"checkpoint\.pt is not a whole checkpoint \(.+\)"):
            load_checkpoint(path)


def test_a_damaged_checkpoint_is_named_or_read_and_nothing_else(path: Path) -> None:
    save_checkpoint(path, {"weight": torch.arange(100.0), "step": [1, {"a": None}]})
    whole = path.read_bytes()

    refused = 0
    for position in range(0, len(whole), 3):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        try:
            load_checkpoint(path)
        except HwlError:
            refused += 1

    assert refused > 100


@pytest.mark.parametrize(
    "content", [b"hello", bytes(100), b"\x80\x02"], ids=["text", "zeros", "start of a pickle"]
)
def test_a_file_of_another_kind_is_named(content: bytes, path: Path) -> None:
    path.write_bytes(content)

    with pytest.raises(HwlError, match=r"checkpoint\.pt is not a whole checkpoint"):
        load_checkpoint(path)

"""Image files: what is read, what is refused, and how images are written."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from hwl.data.images import damage, read_image, write_image
from hwl.errors import HwlError

LEFT, RIGHT = (200, 30, 60), (10, 120, 250)


def two_colors() -> Image.Image:
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, :20], image[:, 20:] = LEFT, RIGHT
    return Image.fromarray(image)


def assert_is_two_colors(path: Path, left: tuple = LEFT, right: tuple = RIGHT) -> None:
    found = read_image(path)
    assert found.shape == (40, 60, 3) and found.dtype == np.uint8
    np.testing.assert_allclose(found[20, 5], left, atol=3)
    np.testing.assert_allclose(found[20, 40], right, atol=3)


@pytest.mark.parametrize(
    ("name", "mode"), [("a.png", "RGB"), ("a.jpg", "RGB"), ("a.png", "RGBA"), ("a.jpg", "CMYK")]
)
def test_a_image_is_rgb_whatever_its_color_space(tmp_path: Path, name: str, mode: str) -> None:
    image = two_colors().convert(mode)
    if mode == "RGBA":
        image.putalpha(100)
    image.save(tmp_path / name)

    assert_is_two_colors(tmp_path / name)


def test_a_grey_image_has_three_equal_channels(tmp_path: Path) -> None:
    two_colors().convert("L").save(tmp_path / "a.png")

    assert_is_two_colors(tmp_path / "a.png", (84,) * 3, (102,) * 3)


def test_a_16_bit_image_is_scaled_to_8(tmp_path: Path) -> None:
    wide = np.asarray(two_colors())[:, :, ::-1].astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "a.png"), wide)

    assert_is_two_colors(tmp_path / "a.png")


def test_exif_rotation_is_ignored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    two_colors().save(tmp_path / "a.jpg", exif=exif)

    assert_is_two_colors(tmp_path / "a.jpg")


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(HwlError, match=r"none\.jpg: there is no such file"):
        read_image(tmp_path / "none.jpg")


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
@pytest.mark.parametrize("kept", [0, 0.5, 0.99])
def test_a_broken_image_is_named(tmp_path: Path, name: str, kept: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(len(whole) * kept)])

    with pytest.raises(HwlError, match=rf"{name}: cannot be decoded as an image"):
        read_image(tmp_path / name)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_cut_short_is_refused_where_opencv_fills_it_with_grey(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, progressive: bool
) -> None:
    two_colors().save(tmp_path / "a.jpg", progressive=progressive)
    whole = (tmp_path / "a.jpg").read_bytes()
    # OpenCV 4 decodes such a file, OpenCV 5 does not.
    gray = np.full((40, 60, 3), 128, np.uint8)
    monkeypatch.setattr(cv2, "imdecode", lambda data, flags: gray)
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) - 20])

    with pytest.raises(HwlError, match=r"a\.jpg: cannot be decoded"):
        read_image(tmp_path / "a.jpg")


def test_a_jpeg_with_bytes_after_its_end_is_read(tmp_path: Path) -> None:
    two_colors().save(tmp_path / "a.jpg", progressive=True)
    with (tmp_path / "a.jpg").open("ab") as file:
        file.write(b"more of the camera's")

    assert_is_two_colors(tmp_path / "a.jpg")


def test_a_film_after_a_jpeg_is_not_taken_for_its_end(tmp_path: Path) -> None:
    two_colors().save(tmp_path / "a.jpg")
    with (tmp_path / "a.jpg").open("ab") as file:
        file.write(b"film \xff\xd9 film \xff\xda film")

    assert_is_two_colors(tmp_path / "a.jpg")


def test_a_jpeg_cut_short_after_its_thumbnail_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_colors().save(tmp_path / "a.jpg", comment=b"thumbnail \xff\xda ... \xff\xd9")
    whole = (tmp_path / "a.jpg").read_bytes()
    gray = np.full((40, 60, 3), 128, np.uint8)
    monkeypatch.setattr(cv2, "imdecode", lambda data, flags: gray)
    (tmp_path / "a.jpg").write_bytes(whole[: whole.rfind(b"\xff\xda")])

    with pytest.raises(HwlError, match=r"a\.jpg: cannot be decoded"):
        read_image(tmp_path / "a.jpg")


def noise(width: int = 120, height: int = 90) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_an_upright_image_is_turned_by_its_exif_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    two_colors().save(tmp_path / "a.jpg", exif=exif)

    assert read_image(tmp_path / "a.jpg", upright=True).shape == (60, 40, 3)


def png_header(width: int, height: int) -> bytes:
    """A PNG that says how large it is and holds nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def test_an_image_of_40000_pixels_a_side_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "large.png").write_bytes(png_header(40_000, 40_000))
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it is decoded"))

    with pytest.raises(HwlError, match=r"large\.png: too many pixels to decode"):
        read_image(tmp_path / "large.png")


def test_an_image_that_opencv_refuses_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise cv2.error("its own limits")

    noise().save(tmp_path / "a.png")
    monkeypatch.setattr(cv2, "imdecode", refuse)

    with pytest.raises(HwlError, match=r"a\.png: cannot be decoded as an image"):
        read_image(tmp_path / "a.png")


def test_an_image_beyond_opencvs_limits_is_named(tmp_path: Path) -> None:
    (tmp_path / "long.png").write_bytes(png_header(2**20 + 1, 1))

    with pytest.raises(HwlError, match=r"long\.png: cannot be decoded"):
        read_image(tmp_path / "long.png")


@pytest.mark.parametrize("name", ["", ".", "no/a.png", "a.png/b.png", "a\0.png"])
def test_what_is_no_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.png").touch()

    with pytest.raises(HwlError, match="there is no such file"):
        read_image(tmp_path / name)


def test_a_name_that_is_too_long_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(HwlError, match="cannot be read"):
        read_image(tmp_path / ("a" * 300))


def test_a_name_that_is_not_utf_8_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"a\xff.png")
    two_colors().save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(path)

    with pytest.raises(HwlError, match=r"a\\xff\.png': the name is not UTF-8; rename it"):
        read_image(path)


def test_an_image_is_written_as_it_is(tmp_path: Path) -> None:
    image = np.asarray(noise())

    write_image(tmp_path / "new/a.png", image)

    np.testing.assert_array_equal(read_image(tmp_path / "new/a.png"), image)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]


def test_an_image_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()

    with pytest.raises(HwlError, match=r"a\.png: cannot be written \(Is a directory\)"):
        write_image(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))


def test_an_image_is_written_under_a_name_that_is_not_utf_8(tmp_path: Path) -> None:
    write_image(tmp_path / os.fsdecode(b"a\xff.png"), np.zeros((4, 4, 3), np.uint8))

    assert os.listdir(os.fsencode(tmp_path)) == [b"a\xff.png"]


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}], ids=str)
def test_a_whole_jpeg_is_not_damaged(tmp_path: Path, mode: str, options: dict) -> None:
    noise().convert(mode).save(tmp_path / "a.jpg", **options)

    assert damage(tmp_path / "a.jpg") is None


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("spoil", ["erase", "remove"])
def test_a_jpeg_damaged_in_the_middle_is_found(
    tmp_path: Path, progressive: bool, spoil: str, capfd: pytest.CaptureFixture[str]
) -> None:
    noise().save(tmp_path / "a.jpg", progressive=progressive)
    data = (tmp_path / "a.jpg").read_bytes()
    middle = len(data) // 2
    hole = bytes(300) if spoil == "erase" else b""
    (tmp_path / "a.jpg").write_bytes(data[:middle] + hole + data[middle + 300 :])

    assert read_image(tmp_path / "a.jpg").shape == (90, 120, 3)  # which lets it pass
    assert "a.jpg: is damaged (" in str(damage(tmp_path / "a.jpg"))


def test_a_png_damaged_in_the_middle_is_found(tmp_path: Path) -> None:
    file = io.BytesIO()
    noise().save(file, "PNG")
    data = bytearray(file.getvalue())
    data[len(data) // 2] ^= 1
    (tmp_path / "a.png").write_bytes(data)

    assert "a.png: is damaged (" in str(damage(tmp_path / "a.png"))

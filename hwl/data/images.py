"""Image files: read strictly into RGB arrays, and written whole or not at all."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from hwl.errors import HwlError
from hwl.files import replacing

REMEDY = "fetch the images again or correct 'file_name'"
END_OF_JPEG = b"\xff\xd9"
# Of a JPEG. Within compressed pixels 0xff is followed by 0 or the number of a restart only.
MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
ORIENTATION = 0x0112  # the number of EXIF's tag


def read_image(path: Path, upright: bool = False) -> np.ndarray:
    """An image file as (H, W, 3) uint8 RGB, whatever its color space or depth.

    Args:
        path: the file.
        upright: turn it by its EXIF orientation, as photographs are looked at. A data set's images
            are not turned: COCO's annotations are made on the stored pixels. (OpenCV turns a TIFF
            always.)

    Raises:
        HwlError: the file is missing, cut short, no image or too large to be decoded.
    """
    data = _read(path)
    _check_pixels(path, data)
    flags = cv2.IMREAD_COLOR if upright else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error:  # its own limits, such as 2^20 pixels a side
        image = None
    if image is None or _cut_short(data):
        raise HwlError(f"{path}: cannot be decoded as an image; {REMEDY}")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def write_image(path: Path, image: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB to a file whose ending says the format, such as .png.

    Raises:
        HwlError: the file cannot be written there.
    """
    # Not by cv2.imwrite, which fails without a word and crashes at names that are not UTF-8.
    _, data = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    try:
        with replacing(path) as partial:
            partial.write_bytes(data.tobytes())
    except OSError as error:
        raise HwlError(f"{path}: cannot be written ({error.strerror})") from error


def damage(path: Path) -> str | None:
    """What a strict decoder finds wrong in an image file, None if it finds nothing.

    `read_image` accepts a JPEG whose middle is damaged, as decoders do that are made for looking.
    A single wrong bit is found in about one JPEG of five, missing or erased bytes in most.

    Raises:
        HwlError: the file cannot be read.
    """
    data = _read(path)
    try:
        if data.startswith(b"\xff\xd8"):
            space = simplejpeg.decode_jpeg_header(data)[2]
            wanted = {"Gray": "GRAY", "CMYK": "CMYK", "YCCK": "CMYK"}.get(space, "RGB")
            simplejpeg.decode_jpeg(data, colorspace=wanted)
        else:
            with Image.open(io.BytesIO(data)) as image:
                image.verify()
    except (ValueError, OSError, SyntaxError) as error:
        return f"{path}: is damaged ({error}); fetch it again"
    return None


def check_name(path: Path) -> None:
    """HwlError for a name that is not UTF-8, at which OpenCV crashes."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise HwlError(f"{os.fsencode(path)!r}: the name is not UTF-8; rename it") from error


def _read(path: Path) -> bytes:
    check_name(path)
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError) as error:
        raise HwlError(f"{path}: there is no such file; {REMEDY}") from error
    except OSError as error:
        raise HwlError(f"{path}: cannot be read ({error.strerror}); {REMEDY}") from error


def _check_pixels(path: Path, data: bytes) -> None:
    """HwlError for an image that Pillow, which reads its header only, holds for a bomb."""
    try:
        Image.open(io.BytesIO(data)).close()
    except Image.DecompressionBombError as error:
        raise HwlError(
            f"{path}: too many pixels to decode ({error}); scale it down, with its annotations"
        ) from error
    except (OSError, ValueError):  # no format of Pillow's: OpenCV may know it
        pass


def orientation(path: Path) -> int:
    """A file's EXIF orientation; 1, also where it tells none, is upright as stored."""
    try:
        with Image.open(path) as image:
            return int(image.getexif().get(ORIENTATION, 1))
    except (OSError, ValueError, Image.DecompressionBombError):
        return 1


def _cut_short(data: bytes) -> bool:
    """Whether a JPEG lacks its end marker; OpenCV 4 fills the missing part with gray.

    From marker to marker, for a thumbnail in a segment, or a film after the image, has markers too.
    """
    if not data.startswith(b"\xff\xd8") or data.endswith(END_OF_JPEG):
        return False
    place = 2
    while marker := MARKER.search(data, place):
        if marker[0] == END_OF_JPEG:
            return False
        place = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return True

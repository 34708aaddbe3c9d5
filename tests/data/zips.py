"""Small zip files, and what lies in a folder."""

import zipfile
from pathlib import Path


def make_zip(path: Path, *names: str | zipfile.ZipInfo) -> Path:
    with zipfile.ZipFile(path, "w") as zipped:
        for name in names:
            zipped.writestr(name, b"x" * 1000)
    return path


def names_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))

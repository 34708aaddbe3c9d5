"""Looking a data set over before a long run: annotations, and every image once."""

from __future__ import annotations

from collections import Counter
from multiprocessing.pool import ThreadPool
from pathlib import Path

from hwl.data.annotations import load_split
from hwl.data.crops import read_image
from hwl.errors import HwlError
from hwl.progress import progress


def check_split(data: Path, split: str) -> str:
    """Read a split's annotations and all its images, and describe it in a sentence.

    Raises:
        HwlError: naming every image that is missing, unreadable or of another size than its
            annotation says, or the annotation entry that is wrong.
    """
    annotations = load_split(data, split)

    def problem(index: int) -> str | None:
        try:
            height, width = read_image(annotations.image_path(index)).shape[:2]
        except HwlError as error:
            return str(error)
        expected = tuple(annotations.image_sizes[index])
        if (width, height) == expected:
            return None
        return (
            f"{annotations.image_path(index)} is {width}x{height} pixels, its annotation says "
            f"{expected[0]}x{expected[1]}"
        )

    count = len(annotations.image_ids)
    with ThreadPool() as pool:  # decoding lets go of Python's lock
        found = list(progress(pool.imap(problem, range(count)), f"check {split}", total=count))
    problems = [text for text in found if text]
    if problems:
        raise HwlError("\n".join([f"{len(problems)} of {count} images are wrong:", *problems]))
    annotated = Counter(
        (annotations.keypoints[annotations.annotated()][:, :, 2] > 0).sum(1).tolist()
    )
    mean = sum(keypoints * persons for keypoints, persons in annotated.items()) / annotated.total()
    return (
        f"{split}: {count} images, {len(annotations.ids)} persons, {annotated.total()} of them "
        f"with annotated keypoints (mean {mean:.1f} of {len(annotations.skeleton)}), skeleton "
        f"{annotations.skeleton.name}"
    )

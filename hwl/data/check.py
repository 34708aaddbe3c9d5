"""Looking a data set over before a long run: annotations, and every image once."""

from __future__ import annotations

from multiprocessing.pool import ThreadPool
from pathlib import Path

from hwl import processor
from hwl.data.annotations import Annotations, load_split
from hwl.data.images import damage, orientation
from hwl.errors import HwlError
from hwl.progress import progress
from hwl.skeletons import DEFAULT_SIGMA, known_sigmas


def check_split(data: Path, split: str) -> str:
    """Read a split's annotations and all its images, and describe it in a few lines.

    Raises:
        HwlError: naming every image that is missing, unreadable, damaged or of another size than
            its annotation says, or the annotation entry that is wrong.
    """
    annotations = load_split(data, split)
    turned: list[Path] = []

    def problem(index: int) -> str | None:
        try:
            annotations.read_image(index)
            path = annotations.image_path(index)
            if orientation(path) > 1:
                turned.append(path)
            return damage(path)
        except HwlError as error:
            return str(error)

    count = len(annotations.image_ids)
    with ThreadPool(processor.cores()) as pool:  # decoding lets go of Python's lock
        found = list(progress(pool.imap(problem, range(count)), f"check {split}", total=count))
    problems = [text for text in found if text]
    if problems:
        raise HwlError("\n".join([f"{len(problems)} of {count} images are wrong:", *problems]))
    lines = [f"{split}: {count} images, {_persons(annotations)}"]
    lines.append(f"  flip pairs: {_pairs(annotations)}")
    names = annotations.skeleton.keypoints
    known = zip(names, known_sigmas(names), strict=True)
    if unknown := [name for name, sigma in known if sigma is None]:
        lines.append(f"  OKS sigma of {DEFAULT_SIGMA}, as none is known: {', '.join(unknown)}")
    if turned:
        lines.append(
            f"  EXIF orientation in {len(turned)} of {count} images, such as {min(turned)}: it is "
            "not applied, as on COCO; were they annotated upright, store them upright, without EXIF"
        )
    return "\n".join(lines)


def _persons(annotations: Annotations) -> str:
    skeleton = annotations.skeleton
    if not len(annotations.ids):
        return f"no persons, skeleton {skeleton.name}"
    persons = annotations.annotated()
    mean = (annotations.keypoints[persons][:, :, 2] > 0).sum(axis=1).mean()
    out = [f"{which.sum()} {why}" for why, which in annotations.left_out().items() if which.any()]
    return (
        f"{len(annotations.ids)} persons, {len(persons)} of them to learn from (mean {mean:.1f} of "
        f"{len(skeleton)} keypoints annotated), skeleton {skeleton.name}"
        + ("\n  left out: " + ", ".join(out) if out else "")
    )


def _pairs(annotations: Annotations) -> str:
    pairs = annotations.skeleton.pairs
    return ", ".join(f"{left} - {right}" for left, right in pairs) if pairs else "none"

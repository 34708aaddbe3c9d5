"""The command line `hwl data`: make, fetch, check or convert data sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import tyro

from hwl.puppets.config import PuppetConfig

Inline = tyro.conf.arg(name="")


def data_puppets(config: Annotated[PuppetConfig, Inline]) -> None:
    """Draw the puppet data set, the embedded stand-in for COCO."""
    from hwl.puppets.dataset import make_puppets

    print(make_puppets(config))


def data_coco(
    folder: Path = Path("data/coco"),
    splits: tuple[str, ...] = ("train2017", "val2017"),
    yes: bool = False,
    keep_zips: bool = False,
) -> None:
    """Download COCO 2017, after saying what will be fetched and how large it is.

    Args:
        folder: where COCO goes.
        splits: parts to fetch: train2017, val2017 and test2017 (the last also lists test-dev).
        yes: do not ask.
        keep_zips: keep the archives once they are unpacked.
    """
    from hwl.data.download import download_coco

    download_coco(folder, splits, yes=yes, keep_zips=keep_zips)


def data_coco_subset(
    coco: Path = Path("data/coco"), folder: Path = Path("data/coco-subset")
) -> None:
    """Make the folder of the profile `subset` from the official COCO 2017.

    Args:
        coco: official images and annotations of both splits, as `hwl data coco` leaves them.
        folder: the new folder, in COCO's layout.
    """
    from hwl.data.coco_subset import make_coco_subset

    print(make_coco_subset(coco, folder))


def data_check(
    data: tyro.conf.Positional[Path],
    splits: tyro.conf.Positional[tuple[str, ...]] = ("train2017", "val2017"),
) -> None:
    """Read splits of a COCO-layout folder, annotations and every image, and say what is there.

    Args:
        data: folder in COCO's layout.
        splits: names as in annotations/person_keypoints_<split>.json.
    """
    from hwl.data.check import check_split

    for split in splits:
        print(check_split(data, split))


def data_lsp(folder: tyro.conf.Positional[Path], output: tyro.conf.Positional[Path]) -> None:
    """Convert the original Leeds Sports Pose annotations to COCO's layout.

    Args:
        folder: the unpacked lsp_dataset.zip, with joints.mat and images/.
        output: folder for annotations/.
    """
    from hwl.data.convert import convert_lsp

    for path in convert_lsp(folder, output):
        print(path)


def data_mpii(
    annotation: tyro.conf.Positional[Path],
    images: tyro.conf.Positional[Path],
    output: tyro.conf.Positional[Path],
    ground_truth: Path | None = None,
) -> None:
    """Convert MPII annotations in the field's usual JSON form to COCO's layout.

    Args:
        annotation: mpii_train.json or mpii_val.json.
        images: MPII's folder of images.
        output: the annotation file to write.
        ground_truth: mpii_gt_val.mat, for the head sizes that PCKh needs.
    """
    from hwl.data.convert import convert_mpii

    print(convert_mpii(annotation, images, output, ground_truth))


DATA_COMMANDS: dict[str, Callable[..., None]] = {
    "puppets": data_puppets,
    "coco": data_coco,
    "coco-subset": data_coco_subset,
    "check": data_check,
    "lsp": data_lsp,
    "mpii": data_mpii,
}

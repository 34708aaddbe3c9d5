"""COCO's average precision and recall of keypoints, by pycocotools."""

from __future__ import annotations

import contextlib
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from hwl.data.annotations import Annotations

COCO_NUMBERS = ("AP", "AP50", "AP75", "AP_M", "AP_L", "AR", "AR50", "AR75", "AR_M", "AR_L")
BOOTSTRAP_SEED = 0


def coco_ap(
    annotations: Annotations, results: list[dict[str, object]], bootstrap: int = 0
) -> dict[str, float]:
    """COCO's ten keypoint numbers on all images of the annotations, by pycocotools.

    Args:
        annotations: ground truth; its skeleton's sigmas are used.
        results: from `coco_results`.
        bootstrap: resamplings of the images for a 95 % interval of AP (0: none).

    Returns:
        AP, AP50, AP75, AP_M, AP_L, AR, AR50, AR75, AR_M, AR_L between 0 and 1, NaN where there is
        no such person; with `bootstrap` also AP_low and AP_high.
    """
    if not results:
        numbers = dict.fromkeys(COCO_NUMBERS, 0.0)
        return numbers | ({"AP_low": 0.0, "AP_high": 0.0} if bootstrap else {})
    judge = _judge(annotations, results)
    with contextlib.redirect_stdout(io.StringIO()):
        judge.summarize()
        stats = [float(value) for value in judge.stats]
        interval = _bootstrap(judge, bootstrap) if bootstrap else {}
    numbers = {
        name: float("nan") if value == -1 else value
        for name, value in zip(COCO_NUMBERS, stats, strict=True)
    }
    return numbers | interval


def precision_recall(
    annotations: Annotations, results: list[dict[str, object]]
) -> tuple[np.ndarray, dict[float, np.ndarray]]:
    """COCO's precision over recall of persons of all sizes, whose mean over both is AP.

    Args:
        annotations: ground truth.
        results: from `coco_results`; at least one.

    Returns:
        (101,) recalls from 0 to 1, and for each OKS threshold the (101,) precisions there.
    """
    judge = _judge(annotations, results)
    precision = judge.eval["precision"][:, :, 0, 0, 0]  # one category, all sizes, 20 persons
    thresholds = (round(float(value), 2) for value in judge.params.iouThrs)
    return judge.params.recThrs, dict(zip(thresholds, precision, strict=True))


def _judge(annotations: Annotations, results: list[dict[str, object]]) -> COCOeval:
    """pycocotools' evaluation, accumulated."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = _ground_truth(annotations)
        # loadRes edits the entries it is given.
        found = truth.loadRes([dict(result) for result in results])
        judge = COCOeval(truth, found, "keypoints")
        judge.params.kpt_oks_sigmas = np.array(annotations.skeleton.sigmas)
        judge.params.imgIds = sorted(truth.imgs)
        judge.evaluate()
        judge.accumulate()
    return judge


def _ground_truth(annotations: Annotations) -> COCO:
    truth = COCO()
    truth.dataset = {
        "images": [{"id": int(identity)} for identity in annotations.image_ids],
        "categories": [{"id": annotations.category_id, "name": "person"}],
        "annotations": [
            {
                # pycocotools marks an unmatched detection with 0, so ids start at 1.
                "id": number,
                "image_id": int(annotations.image_ids[image]),
                "category_id": annotations.category_id,
                "bbox": box.tolist(),
                "area": float(area),
                "iscrowd": int(crowd),
                "keypoints": keypoints.ravel().tolist(),
                "num_keypoints": int((keypoints[:, 2] > 0).sum()),
            }
            for number, (image, box, area, crowd, keypoints) in enumerate(
                zip(
                    annotations.image_index,
                    annotations.boxes,
                    annotations.areas,
                    annotations.crowd,
                    annotations.keypoints,
                    strict=True,
                ),
                start=1,
            )
        ],
    }
    truth.createIndex()
    return truth


def _bootstrap(judge: COCOeval, resamplings: int) -> dict[str, float]:
    """95 % percentile interval of AP over resampled images, from the matches already made."""
    images = len(judge.params.imgIds)
    matches = judge.evalImgs[:images]  # of persons of all sizes, the first area range
    for params in (judge.params, judge._paramsEval):
        params.areaRng, params.areaRngLbl = params.areaRng[:1], params.areaRngLbl[:1]
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    values = []
    for _ in range(resamplings):
        judge.evalImgs = [matches[i] for i in rng.integers(images, size=images)]
        judge.accumulate()
        precision = judge.eval["precision"]
        known = precision[precision > -1]
        if known.size:  # else only images without persons were drawn, which have no AP
            values.append(known.mean())
    low, high = np.percentile(values, [2.5, 97.5]) if values else (np.nan, np.nan)
    return {"AP_low": float(low), "AP_high": float(high)}

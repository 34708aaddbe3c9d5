"""Counts of the models that are pinned: test_counting.py counts them, other tests take them."""

from __future__ import annotations

from hwl.speed.counting import Counts

SMALL, LARGE = (256, 192), (384, 288)

# By model and input size: parameters, multiply-accumulates, mmcv's and torchstat's counters.
PINNED = {
    ("ours", SMALL): Counts(3_077_882, 558_997_088, 580_004_852, 580_128_940),
    ("ours", LARGE): Counts(3_077_882, 1_256_114_528, 1_303_374_452, 1_303_558_572),
    ("mobilenetv2", SMALL): Counts(9_569_809, 1_565_042_688, 1_587_256_320, 1_587_256_320),
    ("shufflenetv2", SMALL): Counts(7_550_965, 1_362_276_480, 1_370_998_656, 1_371_367_296),
    ("vipnas_mbv3", SMALL): Counts(5_895_725, 734_151_936, 761_956_584, 762_183_384),
    ("litehrnet18", SMALL): Counts(1_130_769, 242_345_088, 265_996_992, 215_202_112),
    ("litehrnet30", SMALL): Counts(1_763_717, 386_103_648, 423_741_960, 334_703_864),
}

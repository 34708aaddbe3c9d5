#!/usr/bin/env bash
# Everything that only a GPU can measure, unattended, in parts that each take ten minutes at most.
#
#   tests/gpu/run_all.sh OUT [PART...]
#
# Parts, what matters most first: speed, training, evidence, end_to_end, tests. Without a name all
# are run. Each writes OUT/PART.csv as it goes, so that a run that is cut off leaves what is done;
# OUT/machine.json says what it ran on, and OUT/run_all.log what was said.
#
#   PYTHON     a Python that imports hwl's needs (python3); hwl itself is read from this clone
#   DATA       a folder in COCO's layout (data/puppets, which is drawn where it is missing)
#   LIMIT      seconds of a part (540)
#   HWL_DRY=1  everything tiny, on the CPU, to try it out
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
out=$(mkdir -p "$1" && cd "$1" && pwd)
shift
parts=${*:-speed training evidence end_to_end tests}
python=${PYTHON:-python3}
data=${DATA:-$root/data/puppets}
limit=${LIMIT:-540}
dry=${HWL_DRY:-0}
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$root"

speed() { "$python" "$here/measure_speed.py" "$out/speed.csv" $((limit - 60)); }

training() { "$python" "$here/measure_training.py" "$out/training.csv" $((limit - 60)); }

end_to_end() { "$python" "$here/measure_end_to_end.py" "$data" "$out/end_to_end.csv" $((limit - 90)); }

tests() { "$python" -m pytest -q -p no:cacheprovider -m gpu "$here"; }

# MSE and the paper's loss on the same seeds, pair after pair until the time ends; `images/s` is the
# rate of a whole epoch with augmentation, the loader included.
evidence() {
    local end=$((SECONDS + limit - 60)) size="--input-height 256 --input-width 192" recipe
    recipe="--epochs 20 --lr-drops 14 18 --batch-size 32 --lr 1e-3 --warmup-steps 200 --evaluate-every 20 --workers 14"
    seeds=$(seq 0 99)
    if [ "$dry" = 1 ]; then
        size="--input-height 64 --input-width 32" seeds=0
        recipe="--epochs 1 --lr-drops 1 --batch-size 4 --train-limit 4 --val-limit 2 --workers 0 --threads 1"
    fi
    for seed in $seeds; do
        for loss in zero identity; do
            # shellcheck disable=SC2086 # options, to be split
            "$python" -m hwl train --data "$data" --output "$scratch/$loss-$seed" --seed "$seed" \
                --weight-function "$loss" --crop-cache "$scratch/crops" $size $recipe || return
            "$python" - "$scratch/$loss-$seed" "$out/evidence.csv" "$loss" "$seed" <<'PYTHON'
import csv, json, sys
from pathlib import Path

run, table, loss, seed = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]
history = list(csv.DictReader((run / "history.csv").open()))
persons = json.loads((run / "run.json").read_text())["persons"]["train"]
metrics = json.loads((run / "metrics.json").read_text())
# The first epoch starts the workers.
rate = persons / min(float(row["seconds"]) for row in history)
row = {"weight_function": loss, "seed": seed, "images/s": rate, **metrics}
new = not table.exists()
with table.open("a", newline="") as file:
    writer = csv.DictWriter(file, row)
    if new:
        writer.writeheader()
    writer.writerow(row)
PYTHON
        done
        [ "$SECONDS" -lt "$end" ] || return 0
    done
}

"$python" - >"$out/machine.json" <<'PYTHON'
import json

import torch

from hwl.runs.provenance import code_fingerprint, hardware

print(json.dumps({**hardware(), "torch": torch.__version__, "code": code_fingerprint()}, indent=2))
PYTHON
if [ ! -d "$data" ]; then
    "$python" -m hwl data puppets --folder "$data"
fi

export -f speed training end_to_end tests evidence
export here out python limit data dry scratch
all() {
    local status=0 part code
    for part in $parts; do
        echo "== $part"
        timeout "$limit" bash -c "$part" 2>&1
        code=$?
        case $code in
            0) echo "done: $part" ;;
            124) echo "out of time: $part; what was done is kept" ;;
            *) echo "failed: $part" && status=1 ;;
        esac
    done
    return $status
}
all | tee -a "$out/run_all.log"
exit "${PIPESTATUS[0]}"

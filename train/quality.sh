#!/usr/bin/env bash
# Make every row of the quality table, the table and the scorer anew: train/quality.sh DATA [RUNS]
#
# DATA holds qa/ and golden/authors_release/; RUNS (runs/) what train/retrain.sh and train/sites.sh left: corpus.arrow,
# and the encoders that are not bundled. Called again, it goes on: models, embeddings and seeds that are there are not
# made again. Five hours on one core, 20 GB of embeddings in RUNS/cache.
# Variables: SEEDS (5) of each row; RESULTS, the folder of the table; ROWS, a pattern of the rows wanted (.*).
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
data=${1:?"name the folder of the data: train/quality.sh DATA [RUNS]"}
runs=${2:-$root/runs}
results=${RESULTS:-$root/train/results} seeds=${SEEDS:-5} wanted=${ROWS:-.*}
corpus=$runs/corpus.arrow quality=$runs/quality real=$data/qa/decoys.npz
threads=(--threads "${THREADS:-1}")
given=(--real "$real" --cache "$quality/cache" "${threads[@]}")

# unless OUT COMMAND...: unless it is there.
unless() {
    local out=$1
    shift
    [[ -e $out ]] || { echo "== $*" && "$@"; }
}

# row NAME OPTIONS...
row() {
    local name=$1
    shift
    [[ $name =~ ^($wanted)$ ]] || return 0
    echo "== row $name"
    protemb-train quality row "$name" -o "$quality/rows" --seeds "$seeds" "${given[@]}" \
        --watched "$quality/made-val.npz" "$@"
}

mkdir -p "$quality"
# Models made of natives: 240 training chains for every row, 960 for the scorer; 40 validation chains to watch.
unless "$quality/made-val.npz" protemb-train quality decoys "$corpus" -o "$quality/made-val.npz" --split val --natives 40
unless "$quality/made-train.npz" protemb-train quality decoys "$corpus" -o "$quality/made-train.npz" --natives 240
unless "$quality/made-train-960.npz" protemb-train quality decoys "$corpus" -o "$quality/made-train-960.npz" \
    --natives 960

# Table 1 of the paper: GraphQA.
small=(--made "$quality/made-train.npz") large=(--made "$quality/made-train-960.npz")
row 1-none "${small[@]}"
row 2-untrained "${small[@]}" --encoder "$runs/untrained.onnx"
row 3-sequence "${small[@]}" --encoder "$runs/language"
row 4-authors "${small[@]}" --encoder "$runs/authors.onnx"
row 5-paper-c30 "${small[@]}" --encoder paper-c30
row 6-paper-c100 "${small[@]}" --encoder paper-c100
row 7-base "${small[@]}" --encoder base

# Ours: a graph network on readouts; the last ones learn from four times the natives.
declare -A encoder_of=([none]=none [untrained]=$runs/untrained.onnx [base]=base)
for name in none untrained base; do
    row "head-$name" "${small[@]}" --network head --encoder "${encoder_of[$name]}"
    row "head-$name-960" "${large[@]}" --network head --encoder "${encoder_of[$name]}"
done

# The score network alone: its noise level is chosen on training targets.
unless "$results/quality-zero-shot.json" protemb-train quality zero-shot --real "$real" "${small[@]}" \
    -o "$results/quality-zero-shot.json" "${threads[@]}"

# The only reader of CASP12.
protemb-train quality table "$quality/rows" --real "$real" --cache "$quality/cache" "${threads[@]}" \
    --encoder "$runs/untrained.onnx" --encoder "$runs/language" --encoder "$runs/authors.onnx" \
    --energies "$data/qa/casp12_baselines.tsv" --zero-shot "$results/quality-zero-shot.json" \
    --against 1-none --against 2-untrained --against head-none-960 --against head-untrained-960 \
    -o "$results/quality.md"

unless "$quality/quality.ckpt" protemb-train quality scorer head-base-960 --rows "$quality/rows" "${given[@]}" \
    --watched "$quality/made-val.npz" --measured "$results/quality.json" -o "$quality/quality.ckpt"
unless "$quality/quality.onnx" protemb-export head "$quality/quality.ckpt" -o "$quality/quality.onnx" --verify "$corpus"
# To bundle it: protemb-export head ... -o sdk/protemb_sdk/bundled/quality.onnx --bundle "..."; protemb-export card

unless "$results/refine.md" protemb-train quality refine "$corpus" -o "$results/refine.md" "${threads[@]}"

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

# unless OUT COMMAND...: run the command if OUT does not exist.
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
    protemb-train quality row "$name" -o "$rows" --seeds "$seeds" "${given[@]}" \
        --watched "$quality/made-val.npz" "$@"
}

# made OUT OPTIONS...: models made of natives.
made() {
    local out=$1
    shift
    unless "$out" protemb-train quality decoys "$corpus" -o "$out" "$@"
}

mkdir -p "$quality"
rows=$quality/rows
# 240 training chains for every row, 960 and what is no model at all for the scorer; 40 validation chains to watch.
made "$quality/made-val.npz" --split val --natives 40
made "$quality/made-train.npz" --natives 240
made "$quality/made-train-960.npz" --natives 960
made "$quality/noise-train.npz" --natives 480 --models 2 --kind noisy --kind coils
made "$quality/noise-val.npz" --natives 40 --models 2 --kind noisy --kind coils --split val
# Whether a sequence fits a fold, learnt from natives without labels.
unless "$quality/names.pt" protemb-train quality names "$corpus" -o "$quality/names.pt" "${threads[@]}"

# Table 1 of the paper: GraphQA.
small=(--made "$quality/made-train.npz")
row 1-none "${small[@]}"
row 2-untrained "${small[@]}" --encoder "$runs/untrained.onnx"
row 3-sequence "${small[@]}" --encoder "$runs/language"
row 4-authors "${small[@]}" --encoder "$runs/authors.onnx"
row 5-paper-c30 "${small[@]}" --encoder paper-c30
row 6-paper-c100 "${small[@]}" --encoder paper-c100
row 7-base "${small[@]}" --encoder base
row 9-base-1 "${small[@]}" --encoder base-1
if [[ 8-base-1-fine-tuned =~ ^($wanted)$ ]]; then
    protemb-train quality finetune 8-base-1-fine-tuned --from 9-base-1 --rows "$quality/rows" --real "$real" "${small[@]}" \
        --watched "$quality/made-val.npz" --checkpoint "$root/train/results/base-1.ckpt" "${threads[@]}"
fi
row 11-small-1 "${small[@]}" --encoder small-1
row 11-small-1-untrained "${small[@]}" --encoder "$runs/small-untrained.onnx"
row 12-base-int8 "${small[@]}" --encoder base-int8

named=("${small[@]}" --names "$quality/names.pt")
row 9-base-named "${named[@]}" --encoder base
row none-named "${named[@]}"
row untrained-named "${named[@]}" --encoder "$runs/untrained.onnx"

# A larger namer, made on a GPU, and GraphQA without embeddings of pairs, which can be exported.
names_large=(--network residues --names "$root/train/results/names-large.pt")
row 10-residues-names-large "${small[@]}" "${names_large[@]}" --encoder base
row none-names-large "${small[@]}" "${names_large[@]}"

# The same on more natives and on noise: the scorer, and what it would be without its embedding.
large_residues=("${names_large[@]}" --made "$quality/made-train-960.npz" --made "$quality/noise-train.npz"
    --watched "$quality/noise-val.npz")
row large-residues-none "${large_residues[@]}"
row large-residues-untrained "${large_residues[@]}" --encoder "$runs/untrained.onnx"
row large-residues-base "${large_residues[@]}" --encoder base

# Ours: a graph network on readouts; large: more natives, noise, and names.
large=(--made "$quality/made-train-960.npz" --made "$quality/noise-train.npz" --watched "$quality/noise-val.npz"
    --names "$quality/names.pt" --network head)
declare -A encoder_of=([none]=none [untrained]=$runs/untrained.onnx [base]=base)
for name in none untrained base; do
    row "head-$name" "${small[@]}" --network head --encoder "${encoder_of[$name]}"
    row "large-$name" "${large[@]}" --encoder "${encoder_of[$name]}"
done

# The score network alone: its noise level is chosen on training targets.
unless "$results/quality-zero-shot.json" protemb-train quality zero-shot --real "$real" "${small[@]}" \
    -o "$results/quality-zero-shot.json" "${threads[@]}"

# The only reader of CASP12.
protemb-train quality table "$quality/rows" --real "$real" --cache "$quality/cache" "${threads[@]}" \
    --encoder "$runs/untrained.onnx" --encoder "$runs/small-untrained.onnx" --encoder "$runs/language" \
    --encoder "$runs/authors.onnx" \
    --energies "$data/qa/casp12_baselines.tsv" --zero-shot "$results/quality-zero-shot.json" \
    --names "$quality/names.pt" --against 1-none --against 2-untrained --against large-residues-none \
    -o "$results/quality.md"

# All vectors of residues of base, without a separate network for residue types; residues: without pairs, for the scorer.
rows=$quality/frozen
vectors=(--readout residue --readout profile --readout mean)
row 1-none "${small[@]}"
row 2-untrained "${small[@]}" "${vectors[@]}" --encoder "$runs/untrained.onnx"
row 7-base "${small[@]}" "${vectors[@]}" --encoder base
row residues-none "${small[@]}" --network residues
row residues-base "${small[@]}" "${vectors[@]}" --network residues --encoder base
protemb-train quality table "$rows" --real "$real" --cache "$quality/cache" "${threads[@]}" \
    --encoder "$runs/untrained.onnx" --energies "$data/qa/casp12_baselines.tsv" \
    --against 1-none --against 2-untrained -o "$results/quality-frozen.md"

# The scorer of the SDK: 160 natives; three kinds of networks, because their errors differ.
made "$quality/made-train-160.npz" --natives 160
# Natives, because most models that people have today are nearly as good: for the calibration, and for the card alone.
natives=(--natives 100 --models 1 --kind natives)
made "$quality/natives-val.npz" --split val "${natives[@]}"
made "$quality/natives-test.npz" --split test "${natives[@]}"
rows=$quality/scorer
given+=(--made "$quality/made-train-160.npz")
vectors=(--readout profile --readout residue --readout mean)
row compat-base --network compatibility "${vectors[@]}" --encoder base
row compat-untrained --network compatibility "${vectors[@]}" --encoder "$runs/untrained.onnx"
seeds=1
row residues-base --network residues --epochs 24 "${vectors[@]}" --encoder base
row residues-none --network residues --epochs 24
scorer=(compat-base residues-base residues-none)
protemb-train quality table "$rows" --real "$real" --cache "$quality/cache" "${threads[@]}" \
    --encoder "$runs/untrained.onnx" --energies "$data/qa/casp12_baselines.tsv" \
    --against residues-none --against compat-untrained --together "$(IFS=, && echo "${scorer[*]}")" \
    -o "$results/quality-scorer.md"
unless "$quality/quality.ckpt" protemb-train quality scorer "${scorer[@]}" --rows "$rows" --real "$real" \
    --cache "$quality/cache" "${threads[@]}" --watched "$quality/made-val.npz" --watched "$quality/natives-val.npz" \
    --evaluated "$quality/natives-test.npz" --measured "$results/quality-scorer.json" -o "$quality/quality.ckpt"
unless "$quality/quality.onnx" protemb-export head "$quality/quality.ckpt" -o "$quality/quality.onnx" --verify "$corpus"
# To bundle it: protemb-export head ... -o sdk/protemb_sdk/bundled/quality.onnx --bundle "..."; protemb-export card

unless "$results/refine.md" protemb-train quality refine "$corpus" -o "$results/refine.md" "${threads[@]}"

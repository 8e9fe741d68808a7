#!/usr/bin/env bash
# Make every row of the PPI tables, the tables, and the predictor anew: train/sites.sh DATA [RUNS]
#
# DATA holds ppi/ and golden/authors_release/; RUNS (runs/) what train/retrain.sh left, corpus.arrow above all. Called
# again, it goes on: seeds, starts and embeddings that are there are not made again. Four hours on one core.
# Variables: SEEDS (5) of each row; RESULTS, the folder of the tables; ROWS, a pattern of the rows wanted (.*).
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
data=${1:?"name the folder of the data: train/sites.sh DATA [RUNS]"}
runs=${2:-$root/runs}
results=${RESULTS:-$root/train/results} seeds=${SEEDS:-5} wanted=${ROWS:-.*}
deepppisp=$data/ppi/deepppisp.npz graphppis=$data/ppi/graphppis.npz corpus=$runs/corpus.arrow
threads=(--threads "${THREADS:-1}") cache=(--cache "$runs/cache")
release=$data/golden/authors_release

# unless OUT COMMAND...: unless it is there.
unless() {
    local out=$1
    shift
    [[ -e $out ]] || { echo "== $*" && "$@"; }
}

# row FOLDER NAME OPTIONS...
row() {
    local folder=$1 name=$2
    shift 2
    [[ $name =~ ^($wanted)$ ]] || return 0
    echo "== row $folder/$name"
    protemb-train sites row "$name" -o "$runs/$folder" --seeds "$seeds" "${cache[@]}" "${threads[@]}" "$@"
}

# The encoders that are not bundled.
unless "$runs/untrained.ckpt" protemb-train untrained --preset base -o "$runs/untrained.ckpt"
unless "$runs/untrained.onnx" protemb-export model "$runs/untrained.ckpt" -o "$runs/untrained.onnx" \
    --sigma .3 --verify "$corpus" --chains 3
unless "$runs/small-untrained.ckpt" protemb-train untrained --config "$root/train/results/small-1.toml" \
    -o "$runs/small-untrained.ckpt"
unless "$runs/small-untrained.onnx" protemb-export model "$runs/small-untrained.ckpt" \
    -o "$runs/small-untrained.onnx" --sigma 1 --verify "$corpus" --chains 3
unless "$runs/authors.onnx" protemb-export released "$release/model.pth" --structure "$release/A0AEI5.pdb" \
    --embedding "$release/A0AEI5_embedding.npz" --level 20 -o "$runs/authors.onnx" # level 20: 1 angstrom
unless "$runs/language" protemb-train language --corpus "$corpus" -o "$runs/language"

# encoder_of NAME: sets `encoder`, the options of its vectors of residues: `residue` of base and its untrained twin, four
# means of the map of base-1, the usual ones of a rival.
encoder_of() {
    case $1 in
    none) encoder=() ;;
    untrained) encoder=(--encoder "$runs/untrained.onnx" --readout residue) ;;
    base | base-int8 | small) encoder=(--encoder "$1" --readout residue) ;;
    base-1) encoder=(--encoder base-1 --readout mean --readout contact --readout column --readout column-contact) ;;
    *) encoder=(--encoder "$1") ;;
    esac
}

# What heads learn on chains cut in two.
for name in none untrained base; do
    encoder_of "$name"
    unless "$runs/start-$name.pt" protemb-train sites start "$corpus" -o "$runs/start-$name.pt" \
        "${encoder[@]}" "${cache[@]}" "${threads[@]}"
done

# Table 2 of the paper: DeepPPISP.
d=(--data "$deepppisp")
for name in 1-none 2-untrained 5-paper-c30 6-paper-c100 7-base 9-base-1 10-small-1 11-base-int8 12-proteinmpnn 13-3di; do
    encoder_of "${name#*-}"
    row sites "$name" "${d[@]}" "${encoder[@]}"
done
row sites 3-sequence "${d[@]}" --encoder "$runs/language"
row sites 4-authors "${d[@]}" --encoder "$runs/authors.onnx"
row sites 8-base-1-fine-tuned "${d[@]}" --encoder base-1 --unfreeze "$root/train/results/base-1.ckpt"
row sites 10-small-1-untrained "${d[@]}" --encoder "$runs/small-untrained.onnx"

# Ours: a graph head, frozen embeddings, structure alone, from scratch.
graph=("${d[@]}" --network graph)
for name in none untrained base small base-1 proteinmpnn 3di; do
    encoder_of "$name"
    row sites-frozen "graph-$name-no-profile" "${graph[@]}" --no-features "${encoder[@]}"
done

# The DeepPPISP network on the same vectors.
for name in untrained base proteinmpnn; do
    encoder_of "$name"
    row sites-deepppisp "$name" "${d[@]}" "${encoder[@]}"
done

# The same head with and without profiles, and with and without what it learnt beforehand.
for name in none untrained base; do
    encoder_of "$name"
    row sites "graph-$name" "${graph[@]}" "${encoder[@]}"
    started=("${graph[@]}" "${encoder[@]}" --start "$runs/start-$name.pt")
    row sites "graph-$name-started" "${started[@]}"
    row sites "graph-$name-started-no-profile" "${started[@]}" --no-features
done

# Row 1 on all 422 chains, and once with the one-hot layer as published.
row sites-422 1-none-422 "${d[@]}" --every-chain
if [[ -e $runs/sites/1-none/seed-0.npz && ! -e $runs/sites-one-hot/1-none ]]; then
    mkdir -p "$runs/sites-one-hot/1-none" && cp "$runs/sites/1-none/seed-0.npz" "$runs/sites-one-hot/1-none/"
fi
seeds=1 row sites-one-hot 1-none-published-one-hot "${d[@]}" --network deepppisp-published

# GraphPPIS's split: structure alone, and with all features.
g=(--data "$graphppis" --train-split Train_335 --test-split Test_60 --test-split Test_315)
row sites-graphppis 1-none "${g[@]}"
for name in none untrained base; do
    encoder_of "$name"
    e=("${g[@]}" --network graph "${encoder[@]}" --start "$runs/start-$name.pt")
    row sites-graphppis "graph-$name-started" "${e[@]}"
    row sites-graphppis "graph-$name-started-no-profile" "${e[@]}" --no-features
done

# Structure alone, frozen embeddings, from scratch.
for name in none untrained base small proteinmpnn; do
    encoder_of "$name"
    row sites-graphppis-frozen "graph-$name-no-profile" "${g[@]}" --network graph --no-features "${encoder[@]}"
done

# The same with states that are trained with the head.
for name in untrained base; do
    encoder_of "$name"
    checkpoint=$root/train/results/base.ckpt
    [[ $name == base ]] || checkpoint=$runs/untrained.ckpt
    row sites-graphppis-frozen "graph-$name-trained-states-no-profile" "${g[@]}" --network graph --no-features \
        "${encoder[@]}" --unfreeze "$checkpoint"
done

protemb-train sites table "$runs/sites" -o "$results/sites.md" --against 1-none --against 2-untrained \
    --against 12-proteinmpnn --against graph-untrained-started
protemb-train sites table "$runs/sites-frozen" -o "$results/sites-frozen.md" --against graph-none-no-profile \
    --against graph-untrained-no-profile --against graph-base-1-no-profile --against graph-proteinmpnn-no-profile
protemb-train sites table "$runs/sites-deepppisp" -o "$results/sites-deepppisp.md" --against untrained \
    --against proteinmpnn
protemb-train sites table "$runs/sites-422" -o "$results/sites-422.md"
protemb-train sites table "$runs/sites-one-hot" -o "$results/sites-one-hot.md"
for test in Test_60 Test_315; do
    protemb-train sites table "$runs/sites-graphppis" -o "$results/sites-$test.md" --split "$test" \
        --against graph-none-started-no-profile --against graph-untrained-started-no-profile
    protemb-train sites table "$runs/sites-graphppis-frozen" -o "$results/sites-frozen-$test.md" --split "$test" \
        --against graph-none-no-profile --against graph-untrained-no-profile --against graph-proteinmpnn-no-profile \
        --against graph-untrained-trained-states-no-profile
done

protemb-train sites overlap --data "$deepppisp" -o "$results/sites-overlap.md"
protemb-train sites overlap --data "$graphppis" --train-split Train_335 --test-split Test_60 --test-split Test_315 \
    -o "$results/sites-graphppis-overlap.md"

# The predictor of the SDK: Train_335 alone.
encoder=(--encoder base --readout residue --readout profile)
unless "$runs/start-predictor.pt" protemb-train sites start "$corpus" -o "$runs/start-predictor.pt" "${encoder[@]}" \
    "${cache[@]}" "${threads[@]}"
unless "$runs/sites.ckpt" protemb-train sites predictor --data "$graphppis" -o "$runs/sites.ckpt" "${encoder[@]}" \
    --start "$runs/start-predictor.pt" "${cache[@]}" "${threads[@]}"
unless "$runs/sites.onnx" protemb-export head "$runs/sites.ckpt" -o "$runs/sites.onnx" --verify "$corpus"
# To bundle it: protemb-export head ... -o sdk/protemb_sdk/bundled/sites.onnx --bundle "..."; protemb-export card

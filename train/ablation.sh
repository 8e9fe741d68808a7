#!/usr/bin/env bash
# Remove one objective or component of the messages of base at a time: train/ablation.sh DATA [RUNS]
#
# DATA holds ppi/deepppisp.npz and qa/decoys.npz; RUNS (runs/) has corpus.arrow of train/retrain.sh. Called again, it
# goes on. All rows have one protocol: sites by a linear predictor, folds by 60 queries among 300 validation chains.
# Eight minutes on one core for each row and seed.
# Variables: STEPS (300) of each run; SEEDS ("0 1"); RESULTS, the folder of the table; ROWS, a pattern of the rows (.*).
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
data=${1:?"name the folder of the data: train/ablation.sh DATA [RUNS]"}
runs=${2:-$root/runs}
results=${RESULTS:-$root/train/results} steps=${STEPS:-300} wanted=${ROWS:-.*}
read -ra seeds <<<"${SEEDS:-0 1}"
corpus=$runs/corpus.arrow pairs=$runs/pairs.npz folder=$runs/ablation
evaluations=()
mkdir -p "$folder"

[[ -e $pairs ]] || protemb-train pairs "$corpus" -o "$pairs" --count 2000

options=() # of protemb-train pretrain, for the next row
# row NAME [LINE...]: lines of TOML after the preset.
row() {
    local name=$1 seed more=("${options[@]}")
    options=()
    shift
    [[ $name =~ ^($wanted)$ ]] || return 0
    for seed in "${seeds[@]}"; do
        local run=$folder/$name-$seed
        {
            echo 'preset = "base-messages"'
            printf '%s\n' "$@"
        } >"$run.toml"
        echo "== $name, seed $seed"
        protemb-train pretrain --corpus "$corpus" -o "$run" --config "$run.toml" --steps "$steps" \
            --seed "$seed" "${more[@]}"
        protemb-train evaluate network "$run/last.ckpt" --corpus "$corpus" -o "$run.json" --name "$name, seed $seed" \
            --cache "$folder/cache" --contents state --sites "$data/ppi/deepppisp.npz" --real "$data/qa/decoys.npz" \
            --head linear --pairs "$pairs" --queries 60 --chains 300
        evaluations+=("$run.json")
    done
}

row all
row no-types-from-structure "[training]" "profile_loss = 0.0"
row no-hidden-types "[training]" "type_loss = 0.0"
row no-cut-chains "[training]" "pieces = 0" "site_loss = 0.0" "chains = 12"
if [[ damaged-structures-too =~ ^($wanted)$ && ! -e $folder/damaged.npz ]]; then
    protemb-train quality decoys "$corpus" -o "$folder/damaged.npz" --natives 160
fi
options=(--damaged "$folder/damaged.npz")
row damaged-structures-too "[training]" "damaged = 3" "damage_loss = 0.3"
row one-layer-fewer-messages "[network]" "messages = [3, 2]"
row width-64 "[network]" "single_channels = 64"

protemb-train evaluate table "${evaluations[@]}" -o "$results/ablation-states.md" --against "all, seed ${seeds[0]}"

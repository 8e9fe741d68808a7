#!/usr/bin/env bash
# Make every bundled model anew from the data: train/retrain.sh DATA [RUNS]
#
# DATA holds native/corpus.npz and the downstream data that must not be learnt from, RUNS (runs/) what is made on
# the way. Called again, it goes on: a run from its last checkpoint, and what is newer than its inputs is kept.
# Variables: STEPS of each run; MODELS, CARDS and RESULTS, the folders written to; and options added to the
# commands of that name: PRETRAIN, JUDGE, PROBE, EXPORT.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
data=${1:?"name the folder of the data: train/retrain.sh DATA [RUNS]"}
runs=${2:-$root/runs}
bundled=$root/sdk/protemb_sdk/bundled
models=${MODELS:-$bundled} cards=${CARDS:-$root/sdk/docs/models} results=${RESULTS:-$root/train/results}
names=(base small base-1 paper-c100 paper-c30)
declare -A summary=(
    [base]="default"
    [small]="a smaller pair map, a quarter of the time of base"
    [base-1]="for stores and predictors of the model that was called base before"
    [paper-c100]="to compare with the published network"
    [paper-c30]="to compare with the published network, trained on one chain per cluster"
)
declare -A sigma=([base]=.3 [small]=.3) # angstrom, of the embedding; 1 for the others, of which paper takes its nearest level
# Networks with states: messages between neighbours are trained alone first; then the whole network of base, from a trained map;
# then that of small, from the states of base and a map of its own.
messages=12000 map_steps=6500
declare -A map=([base]=base-long [small]=small-map) together=([base]=600 [small]=1500)
read -ra pretrain_options <<<"${PRETRAIN:-}"
read -ra judge_options <<<"${JUDGE:-}"
read -ra probe_options <<<"${PROBE:-}"
read -ra export_options <<<"${EXPORT:-}"

if python -c "import sys, torch; sys.exit(not torch.cuda.is_available())"; then
    steps=${STEPS:-36500} compiler=yes
else
    steps=${STEPS:-6000} compiler=$(command -v c++ || true)
fi
# On some CPUs too: 1.2 seconds a step instead of 1.75 on one, nothing on another. base has nothing to gain.
paper_options=(${compiler:+--compile})

# make_file OUT INPUT... -- COMMAND...: unless OUT is newer than every input; a command that fails leaves no OUT.
make_file() {
    local out=$1 wanted=
    shift
    [[ -e $out ]] || wanted=yes
    while [[ $1 != -- ]]; do
        [[ $1 -nt $out ]] && wanted=yes
        shift
    done
    shift
    [[ -n $wanted ]] || return 0
    echo "== $*"
    "$@" || {
        rm -f "$out"
        exit 1
    }
}

mkdir -p "$runs" "$models" "$cards" "$results"
corpus=$runs/corpus.arrow
avoid=()
# Test chains of both tasks, and all targets of model quality. Relatives of training chains stay.
for file in "$data"/ppi/deepppisp.npz:test "$data"/ppi/graphppis.npz:Test_60,Test_315,UBtest_31 \
    "$data"/qa/decoys.npz; do
    avoid+=(--avoid "$file")
done
build=(protemb-train corpus "$data/native/corpus.npz" --drop-source demos --drop-source af2_foldswitch "${avoid[@]}")
make_file "$corpus" "$data/native/corpus.npz" -- "${build[@]}" -o "$corpus"
make_file "$runs/no_relatives.md" "$corpus" -- \
    protemb-train prove "$corpus" "${avoid[@]}" -o "$runs/no_relatives.md"
make_file "$runs/corpus-c30.arrow" "$corpus" -- "${build[@]}" --one-per-cluster -o "$runs/corpus-c30.arrow"

declare -A checkpoint
compared=() encoders=() judgements=()
for name in "${names[@]}"; do
    run=$runs/$name chains=$corpus options=()
    [[ $name == *-c30 ]] && chains=$runs/corpus-c30.arrow
    [[ $name == paper-* ]] && options=("${paper_options[@]}")
    # Always called: a run that is finished ends at once.
    if [[ -n ${map[$name]:-} ]]; then
        if [[ $name == base ]]; then
            start=$runs/messages/last.ckpt first=$root/train/results/${map[$name]}.ckpt
            protemb-train pretrain --corpus "$chains" -o "$runs/messages" --preset base-messages \
                --steps "${STEPS:-$messages}" "${pretrain_options[@]}"
        else
            start=$runs/base/best.ckpt first=$runs/${map[$name]}/best.ckpt
            protemb-train pretrain --corpus "$chains" -o "$runs/${map[$name]}" \
                --config "$root/train/results/${map[$name]}.toml" --steps "${STEPS:-$map_steps}" "${pretrain_options[@]}"
        fi
        protemb-train pretrain --corpus "$chains" -o "$run" --config "$root/train/results/$name.toml" \
            --steps "${STEPS:-${together[$name]}}" --start "$start" --map "$first" "${pretrain_options[@]}"
    else
        protemb-train pretrain --corpus "$chains" -o "$run" --preset "${name%-c*}" --steps "$steps" \
            "${options[@]}" "${pretrain_options[@]}"
    fi
    # As published; batch statistics taken anew on whole chains were worse.
    checkpoint[$name]=$run/best.ckpt
    # All on the same chains; those of corpus-c30 are in the same split.
    make_file "$results/$name.json" "${checkpoint[$name]}" -- protemb-train judge "${checkpoint[$name]}" \
        --corpus "$corpus" -o "$results/$name.json" "${judge_options[@]}"
    judgements+=("$results/$name.json")
    compared+=("$name=$results/$name.json")
    encoders+=(--encoder "$name=${checkpoint[$name]}")
done

make_file "$results/levels.md" "${judgements[@]}" -- \
    protemb-train compare "${compared[@]}" -o "$results/levels.md"
make_file "$results/probe.json" "${checkpoint[@]}" -- \
    protemb-train probe --corpus "$corpus" "${encoders[@]}" -o "$results/probe.json" "${probe_options[@]}"

# TM-scores of training chains by TM-align, and the linear map of the protein vector.
make_file "$runs/pairs.npz" "$corpus" -- protemb-train pairs "$corpus" -o "$runs/pairs.npz" --count "${PAIRS:-8000}"
for name in "${!map[@]}"; do
    make_file "$runs/$name-map.npz" "${checkpoint[$name]}" "$runs/pairs.npz" -- \
        protemb-train fit-map "${checkpoint[$name]}" --corpus "$corpus" --pairs "$runs/pairs.npz" --cache "$runs/cache" \
            --width 128 -o "$runs/$name-map.npz"
done

for name in "${names[@]}"; do
    model=$models/$name.onnx options=()
    padded=() # chains of different lengths share a batch in the graph for GPUs of a network with states
    [[ -n ${map[$name]:-} ]] && options=(--protein-map "$runs/$name-map.npz") padded=(--checkpoint "$results/$name.ckpt")
    [[ $name == paper-c30 ]] && options=(--no-score) # the wheel has that of paper-c100
    [[ $models == "$bundled" ]] && options+=(--bundle "${summary[$name]}")
    make_file "$results/$name.ckpt" "${checkpoint[$name]}" -- \
        protemb-train weights "${checkpoint[$name]}" -o "$results/$name.ckpt"
    make_file "$model" "$results/$name.ckpt" "$results/$name.json" -- \
        protemb-export model "$results/$name.ckpt" -o "$model" --sigma "${sigma[$name]:-1}" --verify "$corpus" \
        --judgement "$results/$name.json" "${options[@]}" "${export_options[@]}"
    [[ $name == paper-* ]] || make_file "${model%.onnx}-gpu.onnx" "$model" -- \
        protemb-export gpu "$model" --verify "$corpus" "${padded[@]}" "${export_options[@]}"
    if [[ -n ${map[$name]:-} ]]; then
        narrow=("$results/$name.ckpt" "$model" --corpus "$corpus")
        bundle=()
        [[ $models == "$bundled" ]] && bundle=(--bundle "$name with its pair map in 8-bit integers, for the CPU")
        make_file "${model%.onnx}-int8.onnx" "$model" -- \
            protemb-export int8 "${narrow[@]}" -o "${model%.onnx}-int8.onnx" "${bundle[@]}"
        make_file "$cards/$name-int8.md" "${model%.onnx}-int8.onnx" -- \
            protemb-export card "${model%.onnx}-int8.onnx" -o "$cards/$name-int8.md"
    fi
    make_file "$cards/$name.md" "$model" -- protemb-export card "$model" -o "$cards/$name.md"
done
cp "$runs/corpus.json" "$results/corpus.json"

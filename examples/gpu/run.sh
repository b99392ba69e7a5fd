#!/usr/bin/env bash
# Install, check and measure on a host with a GPU and no network, in one go:
#
#   examples/gpu/run.sh WHEELS OUT
#
# WHEELS  the folder that `make gpu-bundle` made
# OUT     folder for the logs and the bench's JSON
#
# The host has Python 3.12 with a torch and Triton of its own; what is installed goes to OUT/site. Each part has its own
# time limit and is done although another one failed, the most important first. At the end stands a line for each part,
# also in OUT/summary.txt; the exit status says whether all of them passed.
#
#   DEVICE=cpu  rehearse on a CPU: every part at its smallest, within ten times its limit
#   BUDGET=540  seconds in all: the last parts get what is left
set -uo pipefail

refuse() {
  echo "examples/gpu/run.sh: $1" >&2
  exit 2
}

(($# == 2)) || refuse "give the folder with the wheels and one for the results: examples/gpu/run.sh WHEELS OUT"
compgen -G "$1/*.whl" > /dev/null || refuse "$1 has no wheels: make gpu-bundle makes them"
wheels=$(realpath "$1") out=$(realpath -m "$2")
device=${DEVICE:-cuda} budget=${BUDGET:-540}
cd "$(dirname "$0")/../.." || exit
why=$(python3 - "$device" 2>&1 << 'END'
import sys

if sys.version_info[:2] != (3, 12):
    sys.exit(f"the wheels are for Python 3.12, and python3 is {sys.version.split()[0]}")
try:
    import torch
    import triton
except ImportError as error:
    sys.exit(f"python3 needs its own torch and Triton: {error}")
if sys.argv[1] == "cuda" and not torch.cuda.is_available():
    sys.exit("torch finds no GPU; DEVICE=cpu rehearses without one")
END
) || refuse "${why##*$'\n'}"
mkdir -p "$out" || exit
export PATH=$out/site/bin:$PATH PYTHONPATH=$out/site:$PWD PYTHONUNBUFFERED=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-4}
export XDG_CACHE_HOME=$out/cache TRITON_CACHE_DIR=$out/cache/triton TORCHINDUCTOR_CACHE_DIR=$out/cache/inductor
export PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 # the host's plugins are for the host's pytest
summary=() failed=0

part() {  # NAME SECONDS COMMAND…: run it for at most so long, and keep what it prints
  local name=$1 limit=$(($2 * patience)) began=$SECONDS left=$((budget - SECONDS)) how=passed status=0
  shift 2
  ((limit <= left)) || limit=$left
  echo "== $name: $*"
  if ((limit < 1)); then
    how="no time left"
  else
    timeout --kill-after=5 "$limit" "$@" 2>&1 | tee "$out/$name.log" || status=${PIPESTATUS[0]}
    case $status in 0) ;; 124 | 137) how="timed out" ;; *) how=failed ;; esac
  fi
  [[ $how == passed ]] || failed=1
  summary+=("$(printf '%-20s %-12s %4d s' "$name" "$how" $((SECONDS - began)))")
}

bench() {  # NAME SECONDS FLAGS…: measure, to NAME.json
  part "$1" "$2" python3 -m skipln_fairseq.bench "${@:3}" --device "$device" --output "$out/$1.json"
}

leave() {  # DIM SECONDS TYPE…
  bench "leave-$1" "$2" leave --dim "$1" --dtype "${@:3}" "${leave[@]}"
}

train() {  # SHAPE SECONDS TYPE
  update "train-$1-$3" "$@" stock plain order-1 order-2 order-8 order-2+fused
}

compile() {  # SHAPE SECONDS TYPE: apart, as nobody knows how long it compiles
  update "compile-$1-$3" "$@" stock stock+compile plain order-2+fused
}

update() {  # NAME SHAPE SECONDS TYPE CONTESTANT…
  bench "$1" "$3" train --shapes "${shapes[$2]}" --dtype "$4" "${train[@]}" --contestants "${@:5}"
}

stand_in() {  # PACKAGE.MODULE NAME…: a module without contents, where the host has none
  local package=$out/site/${1%.*} module=${1#*.}
  python3 -c "import $1" 2> /dev/null && return
  mkdir -p "$package"
  echo "from . import $module" > "$package/__init__.py"
  printf '%s = None\n' "${@:2}" > "$package/$module.py"
}

declare -A shapes
case $device in
  cuda)
    patience=1 first=fp16 second=bf16
    shapes=([base]=wmt [small]=iwslt [big]=wmt-big) narrow=512 wide=1024
    tests=(-n 6 -m "not slow")
    leave=(--rows 65536 --repeats 20 --rounds 10) train=(--max-tokens 8192 --starts 1 --warmup 2 --rounds 8)
    decode=(--batch-sizes 8 64 --beams 5 --starts 1 --sentences 128 --rounds 4) ;;
  cpu)
    patience=10 first=fp32 second=bf16
    shapes=([base]=tiny [small]=tiny [big]=tiny) narrow=32 wide=64
    tests=(-n 1 -m "slow or not slow")
    leave=(--rows 64 --repeats 1 --rounds 2) train=(--max-tokens 64 --starts 1 --warmup 0 --rounds 1 --batches 1
      --encoder-layers 1 --decoder-layers 1 --encoder-embed-dim 16 --encoder-ffn-embed-dim 16)
    decode=(--batch-sizes 8 --beams 5 --starts 1 --sentences 16 --rounds 1) ;;
  *) refuse "DEVICE=$device: valid are cuda, cpu" ;;
esac

part install 60 python3 -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-compile \
  --upgrade --target "$out/site" "$wheels"/*.whl
# fairseq imports these for scores of other tasks than translation; they would be 100 MB of wheels
stand_in sklearn.metrics f1_score matthews_corrcoef
stand_in scipy.stats pearsonr spearmanr
part machine 60 python3 -c 'import sys
import fairseq, torch, triton
print("Python", sys.version.split()[0], "torch", torch.__version__, "triton", triton.__version__, "fairseq", fairseq.__file__)
if sys.argv[1] == "cuda":
    print(torch.cuda.get_device_name(), torch.cuda.get_device_properties(0))' "$device"
part tests 150 python3 -m pytest -q -p no:cacheprovider -p xdist --basetemp "$out/tests" "${tests[@]}" \
  tests/models/test_cuda.py tests/commands/test_gpu.py
train base 60 "$first"
leave "$narrow" 45 "$first" "$second"
compile base 120 "$first"
train small 60 "$second"
part translate 90 examples/gpu/translate.sh "$out/translate" "$device" "$first"
bench decode 60 decode --dtype "$first" --path "$out/translate/checkpoints/checkpoint_last.pt" \
  --data "$out/translate/data" --contestants stock reference fast "${decode[@]}"
train big 60 "$first"
train base 60 "$second"
leave "$wide" 45 "$first" "$second"
compile small 90 "$second"
train small 60 "$first"
train big 60 "$second"
compile big 120 "$first"

printf '%s\n' "${summary[@]}" | tee "$out/summary.txt"
exit $failed

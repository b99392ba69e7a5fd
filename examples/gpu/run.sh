#!/usr/bin/env bash
# Install, check and measure on a host with a GPU and no network, in one go:
#
#   examples/gpu/run.sh WHEELS OUT
#
# WHEELS  folder of wheels for the host's Python: fairseq and whatever of its needs the host lacks (see README.md here)
# OUT     folder for the logs and tables
#
# The host's own torch is used, with the Triton that came with it. Each part is done although another failed; the exit
# status says whether all went well.
set -uo pipefail

wheels=${1:?WHEELS is missing} out=${2:?OUT is missing}
cd "$(dirname "$0")/../.."
mkdir -p "$out/site"
export PYTHONPATH=$PWD:$out/site${PYTHONPATH:+:$PYTHONPATH} OMP_NUM_THREADS=4
failed=0

part() {  # NAME COMMAND…: run it, keep its output
  local name=$1
  shift
  echo "== $name: $*"
  "$@" 2>&1 | tee "$out/$name.log" || { echo "== $name failed"; failed=1; }
}

python3 -m pip install --quiet --no-index --no-deps --target "$out/site" --upgrade "$wheels"/*.whl || exit 1
part machine python3 -c 'import torch, triton; print(torch.__version__, triton.__version__, torch.cuda.get_device_name())'
part tests python3 -m pytest -q tests/models/test_cuda.py
for dtype in fp16 bf16 fp32; do
  part "leave-$dtype" python3 -m skipln_fairseq.bench leave --device cuda --dtype "$dtype" --rows 65536 --repeats 20 \
    --rounds 20 --output "$out/leave-$dtype.json"
done
for dtype in fp16 bf16; do
  part "train-$dtype" python3 -m skipln_fairseq.bench train --device cuda --dtype "$dtype" --shapes iwslt wmt \
    --contestants stock null plain order-1 order-2 order-4 order-8 naive-2 naive-8 order-1+fused order-2+fused \
    order-8+fused --max-tokens 8192 --starts 3 --rounds 10 --output "$out/train-$dtype.json"
done
part grow-depth python3 -m skipln_fairseq.bench grow depth --device cuda --dtype bf16 --shapes iwslt \
  --max-tokens 4096 --output "$out/grow-depth.json"
part grow-length python3 -m skipln_fairseq.bench grow length --device cuda --dtype bf16 --shapes iwslt \
  --max-tokens 4096 --output "$out/grow-length.json"
exit $failed

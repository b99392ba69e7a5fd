#!/usr/bin/env bash
# A variant on several nodes under Slurm, a task on each that starts a process for each of its GPUs:
#
#   sbatch --nodes 4 --gpus-per-node 8 examples/wmt14-en-de/slurm.sh rskip
#
# A job that is cut off goes on from its last checkpoint when it is submitted again. On one node, without Slurm:
#
#   python -m skipln_fairseq.recipes train wmt14-en-de --variant rskip --processes 8
#SBATCH --job-name=wmt14-en-de
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=48:00:00
#SBATCH --requeue
set -euo pipefail

variant=${1:?the variant is missing: baseline, pre-ln or rskip}
shift
cd "${SLURM_SUBMIT_DIR:?this is for sbatch}"
port=$((20000 + SLURM_JOB_ID % 10000)) # two jobs may share their first node
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# srun says the cores again: from Slurm 22.05 to 23.02 it does not take them from the job
srun --cpus-per-task "$SLURM_CPUS_PER_TASK" python -m skipln_fairseq.recipes train wmt14-en-de --variant "$variant" \
  --nodes "$SLURM_JOB_NUM_NODES" --processes "${SLURM_GPUS_ON_NODE:?no GPUs were asked for}" \
  --rendezvous "$first:$port" "$@"

#!/usr/bin/env bash
# A variant on several nodes under Slurm: one task on each, which starts a process for each of its GPUs.
#
#   sbatch --nodes 4 --gpus-per-node 8 examples/wmt14-en-de/slurm.sh rskip
#
# Submit it in the repository's folder, after `recipes prepare wmt14-en-de` there. All nodes must see this folder.
# The lines below "SITE" are those that your cluster may need otherwise; options of sbatch may also be given before
# the script's name. On one node, without Slurm:
#
#   python -m skipln_fairseq.recipes train wmt14-en-de --variant rskip --processes 8

# SITE: who pays, and where; remove one # if your cluster asks for it
##SBATCH --account=NAME
##SBATCH --partition=NAME
# SITE: cores of a node, two for each GPU or more
#SBATCH --cpus-per-task=16
# SITE: at most the partition's limit (sinfo shows it); a longer training takes several turns
#SBATCH --time=48:00:00
# SITE: seconds before the end at which the training saves; more than an update, a validation and a save take
#SBATCH --signal=B:USR1@300

#SBATCH --job-name=wmt14-en-de
#SBATCH --ntasks-per-node=1
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

# SITE: what makes `python` the one with this package
# module load python; source .venv/bin/activate
# SITE: the network between the nodes, if processes do not find each other (`ip address` lists the names)
# export NCCL_SOCKET_IFNAME=ib0 GLOO_SOCKET_IFNAME=ib0

variant=${1:?the variant is missing: baseline, pre-ln or rskip}
shift
cd "${SLURM_SUBMIT_DIR:?this is for sbatch}"
port=$((20000 + SLURM_JOB_ID % 10000)) # two jobs may share their first node
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

# srun says the cores again: from Slurm 22.05 to 23.02 it does not take them from the job
srun --cpus-per-task "$SLURM_CPUS_PER_TASK" python -m skipln_fairseq.recipes train wmt14-en-de --variant "$variant" \
  --nodes "$SLURM_JOB_NUM_NODES" --processes "${SLURM_GPUS_ON_NODE:?no GPUs were asked for}" \
  --rendezvous "$first:$port" "$@" &
training=$!

# Slurm signals this script. The training is told, saves and ends, and the job goes back into the queue.
interrupted=
trap 'interrupted=yes; kill -USR1 "$training"' USR1
wait "$training" && exit
status=$?
if [ "$interrupted" ]; then
  wait "$training" && exit # the signal ended only the first wait
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"

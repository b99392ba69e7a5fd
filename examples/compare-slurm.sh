#!/usr/bin/env bash
# The runs of a comparison as a job array under Slurm: each run is a job, and several run at a time.
#
#   python -m skipln_fairseq.compare grid.yaml --list        # checks the grid and numbers its runs, say 0 to 8
#   array=$(sbatch --parsable --array 0-8 examples/compare-slurm.sh grid.yaml)
#   sbatch --dependency "afterany:$array" --wrap "python -m skipln_fairseq.compare grid.yaml --report-only"
#
# If the grid tunes, the list begins with the tuning. What chooses by it needs an array of its own, after the first:
#
#   sbatch --dependency "afterok:$array" --array 6-14 examples/compare-slurm.sh grid.yaml
#
# A run that was cut off goes on from its last checkpoint, whether Slurm puts its job back into the queue or you submit
# its number again. Two jobs are never at the same run. All nodes must see the folder from which you submit, and its
# file system must know locks (flock), as NFS and Lustre do unless they were mounted without.
# The lines below "SITE" are those that your cluster may need otherwise; options of sbatch may also be given before
# the script's name.

# SITE: who pays, and where; remove one # if your cluster asks for it
##SBATCH --account=NAME
##SBATCH --partition=NAME
# SITE: what a run needs; no GPU if the grid says `cpu: true`
#SBATCH --gpus=1
#SBATCH --cpus-per-task=2
# SITE: at most the partition's limit (sinfo shows it); a longer training takes several turns
#SBATCH --time=12:00:00
# SITE: seconds before the end at which the training saves; more than an update, a validation and a save take
#SBATCH --signal=B:USR1@300

#SBATCH --job-name=compare
#SBATCH --ntasks=1
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

# SITE: what makes `python` the one with this package
# module load python; source .venv/bin/activate

cd "${SLURM_SUBMIT_DIR:?this is for sbatch}"

# srun says the cores again: from Slurm 22.05 to 23.02 it does not take them from the job
srun --cpus-per-task "$SLURM_CPUS_PER_TASK" python -m skipln_fairseq.compare "$@" \
  --run "${SLURM_ARRAY_TASK_ID:?give sbatch --array with the numbers of --list}" &
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

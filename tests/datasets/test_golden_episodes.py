"""Golden file: raw words, table fingerprints and episode hashes that no machine, version or change may alter.

Whoever published figures on these episodes could not repeat them after a change. If one is meant, regenerate by

    RAYFS_DATA=DIR python tests/benchmarks/test_golden_episodes.py      # DIR holds cifar100/; takes seconds
"""

import json
import sys
import tempfile
from pathlib import Path

import pytest

from rayfs.datasets.episodes import Protocol, draw_episode
from rayfs.datasets.image_table import ImageTable, load_table
from rayfs.datasets.registry import open_benchmark
from rayfs.randomness import RawStream

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "episode_hashes.json"

TABLES = (
    ("omniglot", "base"),
    ("omniglot", "validation"),
    ("omniglot", "test"),
    ("omniglot-one-shot", "test"),
    ("cifar-fs", "test"),
    ("fc100", "test"),
)
PROTOCOLS = {
    "omniglot": [(5, 1, 15, 0), (5, 5, 15, 0), (20, 1, 5, 0), (5, 1, 15, 1)],
    "cifar-fs": [(5, 1, 15, 0), (5, 5, 15, 0)],
    "fc100": [(5, 1, 15, 0), (5, 5, 15, 0)],
}
"""For the test split: (n_way, n_shot, n_query, seed)."""
STREAMS = (("golden", 0), ("golden", 1), ("golden", 2**63), ("rayfs episode 1", 599))
N_EPISODES = 20


def raw_words(key: str, index: int) -> list[str]:
    """Return the first eight words of a stream, in hexadecimal."""
    stream = RawStream(key, index)
    return [f"{stream.below(1 << 64):016x}" for _ in range(8)]


def episode_hashes(table: ImageTable, numbers: tuple[int, int, int, int]) -> list[str]:
    n_way, n_shot, n_query, seed = numbers
    protocol = Protocol(n_way=n_way, n_shot=n_shot, n_query=n_query, split="test", seed=seed)
    return [draw_episode(table.offsets, table.fingerprint, protocol, index).hash for index in range(N_EPISODES)]


def title(name: str, numbers: tuple[int, int, int, int]) -> str:
    return "{} test, {}-way {}-shot {}-query, seed {}".format(name, *numbers)


@pytest.fixture(scope="module")
def golden() -> dict:
    return json.loads(GOLDEN.read_text())


@pytest.mark.parametrize(("key", "index"), STREAMS)
def test_raw_words_are_the_committed_ones(golden, key, index):
    assert raw_words(key, index) == golden["words"][f"{key}|{index}"]


@pytest.mark.parametrize(("name", "split"), TABLES)
def test_fingerprint_is_the_committed_one(golden, split_table, name, split):
    assert split_table(name, split).fingerprint == golden["fingerprints"][f"{name} {split}"]


@pytest.mark.parametrize(("name", "numbers"), [(name, numbers) for name, many in PROTOCOLS.items() for numbers in many])
def test_first_episodes_are_the_committed_ones(golden, split_table, name, numbers):
    assert episode_hashes(split_table(name, "test"), numbers) == golden["episodes"][title(name, numbers)]


def test_one_episode_in_full_is_the_committed_one(golden, split_table):
    table = split_table("omniglot", "test")
    protocol = Protocol(n_way=5, n_shot=1, n_query=2, split="test", seed=0)
    assert in_full(table, protocol) == golden["omniglot test, 5-way 1-shot 2-query, seed 0, episode 0"]


def in_full(table: ImageTable, protocol: Protocol) -> dict:
    episode = draw_episode(table.offsets, table.fingerprint, protocol, 0)
    return {
        "protocol_hash": protocol.hash,
        "classes": [table.class_names[class_id] for class_id in episode.class_ids],
        "support_rows": episode.support_ids.tolist(),
        "query_rows": episode.query_ids.tolist(),
        "hash": episode.hash,
    }


def regenerate() -> None:
    """Write the golden file from the code and the data as they are."""
    with tempfile.TemporaryDirectory() as folder:
        tables = {}
        for name, split in TABLES:
            benchmark = open_benchmark(name)
            source = benchmark.source(split, Path(folder))
            size = {"channels": benchmark.channels, "image_size": benchmark.image_size}
            tables[name, split] = load_table(source, Path(folder), **size)
        omniglot = tables["omniglot", "test"]
        values = {
            "command": "RAYFS_DATA=DIR python tests/benchmarks/test_golden_episodes.py",
            "words": {f"{key}|{index}": raw_words(key, index) for key, index in STREAMS},
            "fingerprints": {f"{name} {split}": table.fingerprint for (name, split), table in tables.items()},
            "episodes": {
                title(name, numbers): episode_hashes(tables[name, "test"], numbers)
                for name, many in PROTOCOLS.items()
                for numbers in many
            },
            "omniglot test, 5-way 1-shot 2-query, seed 0, episode 0": in_full(
                omniglot, Protocol(n_way=5, n_shot=1, n_query=2, split="test", seed=0)
            ),
        }
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps(values, indent=1) + "\n")
    print(f"wrote {GOLDEN}")


if __name__ == "__main__":
    sys.exit(regenerate())

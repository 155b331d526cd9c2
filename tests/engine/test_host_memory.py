"""What processes hold, told by kind: their own, shared memory, and files that all of them map."""

import mmap
import os
import sys
from pathlib import Path
from subprocess import PIPE, Popen

import numpy as np
import pytest

from rayfs.engine import host_memory
from rayfs.engine.host_memory import memory_limit, page_cache_bytes, process_memory, tree_memory

pytestmark = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="reads /proc")
MB = 1 << 20


def test_own_pages_shared_memory_and_mapped_files_are_told_apart(tmp_path: Path) -> None:
    np.save(tmp_path / "file.npy", np.ones(64 * MB, np.uint8))
    before = process_memory(os.getpid())
    own = mmap.mmap(-1, 32 * MB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # not what the allocator has kept
    own.write(b"1" * (32 * MB))
    shared = mmap.mmap(-1, 16 * MB)
    shared.write(b"1" * (16 * MB))
    mapped = np.load(tmp_path / "file.npy", mmap_mode="r")
    assert int(mapped.sum()) == 64 * MB
    after = process_memory(os.getpid())
    assert before is not None and after is not None
    grown = [
        getattr(after, name) - getattr(before, name)
        for name in ("own_bytes", "shm_bytes", "mapped_bytes", "file_bytes")
    ]
    assert np.allclose(np.array(grown) / MB, [32, 16, 64, 64], atol=4)
    shared.close()
    own.close()


MAP = "import sys, numpy; m = numpy.load(sys.argv[1], mmap_mode='r'); print(m.sum(), flush=True); sys.stdin.read()"
"""Maps a file, says so and waits."""


def test_a_file_that_several_map_counts_once_and_ended_processes_do_not(tmp_path: Path) -> None:
    np.save(tmp_path / "file.npy", np.ones(64 * MB, np.uint8))
    command = [sys.executable, "-c", MAP, str(tmp_path / "file.npy")]
    children = [Popen(command, stdin=PIPE, stdout=PIPE) for _ in range(2)]
    for child in children:
        assert child.stdout is not None and child.stdout.readline() == b"67108864\n"
    held = [one for one in tree_memory(os.getpid()) if one.pid in {child.pid for child in children}]
    for child in children:
        child.communicate()
    assert len(held) == 2 and all(one.mapped_bytes > 64 * MB and "python" in one.name for one in held)
    assert sum(one.file_bytes for one in held) < 2 * 64 * MB
    assert process_memory(children[0].pid) is None


@pytest.mark.parametrize(
    ("own_group", "files", "limit", "cache"),
    [
        ("4:memory:/docker/a", {"memory/memory.limit_in_bytes": "9",
                                "memory/memory.stat": "total_cache 7\ntotal_shmem 2"}, 9, 5),
        ("4:cpu,memory:/a", {"memory/memory.limit_in_bytes": "99", "memory/a/memory.limit_in_bytes": "8",
                             "memory/a/memory.stat": "cache 1\ntotal_cache 7\ntotal_shmem 2"}, 8, 5),
        ("0::/b", {"b/memory.max": "6", "b/memory.stat": "file 4\nshmem 1"}, 6, 3),
        ("0::/", {"memory.max": "max"}, None, None),
        ("4:memory:/", {"memory/memory.limit_in_bytes": "9223372036854771712"}, None, None),
    ],
    ids=["container, v1", "group, v1", "group, v2", "no limit, v2", "no limit, v1"],
)  # fmt: skip
def test_the_limit_is_that_of_the_container_where_it_has_one(
    own_group: str, files: dict[str, str], limit: int | None, cache: int | None, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    real = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path: own_group if path == Path("/proc/self/cgroup") else real(path))
    monkeypatch.setattr(host_memory, "_CGROUPS", tmp_path)
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert memory_limit() == (limit or machine)
    assert page_cache_bytes() == cache if cache else page_cache_bytes() > MB

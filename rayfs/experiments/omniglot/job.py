"""From the archives of Omniglot to the Parquet files of the embedded benchmarks."""

import json
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rayfs.datasets.episode_file import write_episode_file
from rayfs.datasets.episodes import Episode, Protocol
from rayfs.datasets.image_table import ImageTable, load_table
from rayfs.datasets.images import decode
from rayfs.datasets.registry import open_benchmark
from rayfs.experiments.omniglot.flags import EmbedConfig
from rayfs.flags.command_line import EXIT_OK

ALPHABETS = {
    "images_background_small1.zip": ("Balinese", "Early_Aramaic", "Greek", "Korean", "Latin"),
    "images_background_small2.zip": ("Tagalog", "Japanese_(katakana)", "Sanskrit"),
}
N_RUNS, N_WAY = 20, 20


def write_shard(path: Path, images: list[tuple[bytes, str, str]], names: list[str]) -> None:
    """Write (bytes, path, class name) rows as one Parquet file in the Hugging Face layout; `names` are all classes."""
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
    table = pa.table(
        {
            "image": pa.array(
                [{"bytes": data, "path": file} for data, file, _ in images],
                pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
            ),
            "label": pa.array([names.index(name) for _, _, name in images], pa.int64()),
        }
    ).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, compression="none", use_dictionary=False)


def alphabet_images(archive: Path, alphabet: str) -> list[tuple[bytes, str, str]]:
    """Return every drawing of one alphabet as (PNG bytes, file name, 'alphabet/character')."""
    with zipfile.ZipFile(archive) as files:
        members = [name for name in files.namelist() if name.split("/")[1] == alphabet and name.endswith(".png")]
        return [(files.read(name), name.split("/")[-1], "/".join(name.split("/")[1:3])) for name in sorted(members)]


Pair = tuple[str, bytes, bytes]
"""Class name, training PNG, test PNG."""


def one_shot_runs(archive: Path) -> list[list[Pair]]:
    """Return the official runs; `class_labels.txt` pairs each test image with the training image of its class."""
    with zipfile.ZipFile(archive) as files:
        root = next(name for name in files.namelist() if name.endswith("class_labels.txt")).split("run")[0]
        runs = []
        for run in range(1, N_RUNS + 1):
            lines = files.read(f"{root}run{run:02d}/class_labels.txt").decode().splitlines()
            paths = sorted((training, test) for test, training in (line.split() for line in lines))
            runs.append(
                [
                    (f"run{run:02d}/{Path(training).stem}", files.read(root + training), files.read(root + test))
                    for training, test in paths
                ]
            )
        return runs


def run_as_episode(index: int, pairs: list[Pair], table: ImageTable) -> Episode:
    """Turn official run `index` into an episode: class, support row and query row of each training-test pair."""
    class_ids, rows_of_roles = [], []
    for name, *pngs in pairs:
        class_id = table.class_names.index(name)
        rows = np.arange(table.offsets[class_id], table.offsets[class_id + 1])
        images = [decode(png, channels=1, image_size=table.images.shape[1], where=name).pixels for png in pngs]
        class_ids.append(class_id)
        rows_of_roles.append(
            [next(row for row in rows if np.array_equal(table.images[row], image)) for image in images]
        )
    rows = np.array(rows_of_roles)
    return Episode(index=index, class_ids=np.array(class_ids), support_ids=rows[:, :1], query_ids=rows[:, 1:])


def embed_omniglot(config: EmbedConfig) -> int:
    """Write a shard of each alphabet, the images of the one-shot runs, and their episodes; return the exit code."""
    config.target.mkdir(parents=True, exist_ok=True)
    shards = {
        alphabet: alphabet_images(config.archives / archive, alphabet)
        for archive, alphabets in ALPHABETS.items()
        for alphabet in alphabets
    }
    names = sorted({name for images in shards.values() for _, _, name in images})
    for alphabet, images in shards.items():
        write_shard(config.target / f"{alphabet}.parquet", images, names)
        print(f"{alphabet}: {len(images)} images of {len({name for _, _, name in images})} characters")
    runs = one_shot_runs(config.archives / "one_shot_runs.zip")
    rows = [(png, "", name) for run in runs for name, *pngs in run for png in pngs]
    write_shard(config.target / "one_shot_runs.parquet", rows, sorted({name for _, _, name in rows}))
    with tempfile.TemporaryDirectory() as cache:
        benchmark = open_benchmark("omniglot-one-shot")
        table = load_table(
            benchmark.source("test", Path(cache)), Path(cache), channels=1, image_size=benchmark.image_size
        )
        protocol = Protocol(n_way=N_WAY, n_shot=1, n_query=1, split="test", seed=0)
        episodes = [run_as_episode(index, pairs, table) for index, pairs in enumerate(runs)]
        write_episode_file(config.target / "one_shot_episodes.parquet", episodes, protocol, table.fingerprint)
    print(f"one-shot runs: {len(rows)} images, {len(runs)} episodes, {len(runs) * N_WAY} trials")
    return EXIT_OK

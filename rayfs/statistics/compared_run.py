"""A run as a comparison reads it, and what two runs must share to be compared."""

from dataclasses import dataclass
from typing import Any

from rayfs.datasets.episode_file import decode_episode_file
from rayfs.errors import InputError
from rayfs.json_text import parse_json
from rayfs.methods.registry import BASELINE, canonical
from rayfs.runs.rows import Row
from rayfs.runs.run_directory import EPISODE_FILE, MANIFEST, SUMMARY, RunDirectory
from rayfs.runs.run_manifest import first_difference
from rayfs.statistics.disjoint import images_of
from rayfs.statistics.pairing import Side


@dataclass(frozen=True, kw_only=True)
class ComparedRun:
    """What is read of a run directory."""

    location: str
    identity: dict[str, Any]
    """Of `manifest.json`: benchmark, images, protocol, backbone."""
    configs: dict[str, Any]
    """Method -> its config, of `manifest.json`."""
    rows: dict[str, list[Row]]
    """Method -> its rows; methods without rows are not in it."""
    baseline: str
    """The method that others are against where none is named; one of `rows`."""
    images: dict[str, list[int]] | None
    """Episode hash -> rows of the image table; None if the run has no `episodes.parquet`."""

    def side(self, method: str) -> Side:
        """Return the rows of `method`.

        Raises:
            InputError: if it has none.
        """
        method = canonical(method)
        if method not in self.rows:
            raise InputError(
                f"{self.location} has no rows of method '{method}'; it has rows of {', '.join(self.rows)}: choose with "
                "--methods"
            )
        return Side(name=f"{method} of {self.location}", rows=self.rows[method])


def read_run(location: str) -> ComparedRun:
    """Read the run at `location`; nothing is locked or written.

    Raises:
        InputError: if there is no run, it has no rows yet, or one of its files cannot be read.
    """
    run = RunDirectory(location)
    manifest = run.manifest()
    if manifest is None:
        raise InputError(
            f"{run.location} has no {MANIFEST}: it is not a run directory; give the folder that holds that file (of an "
            "embedding run OUT/5-shot, not OUT)"
        )
    rows: dict[str, list[Row]] = {name: [] for name in manifest["methods"]}
    for row in run.rows():
        rows.setdefault(row.method, []).append(row)
    rows = {name: of_method for name, of_method in rows.items() if of_method}
    if not rows:
        raise InputError(f"{run.location} has no rows yet: there is nothing to compare; run its command first")
    stored = run.read_file(EPISODE_FILE)
    return ComparedRun(
        location=run.location,
        identity=manifest["identity"],
        configs=manifest["methods"],
        rows=rows,
        baseline=_baseline(run.read_file(SUMMARY), list(rows)),
        images=None if stored is None else images_of(_decoded(run.location, stored)),
    )


def image_difference(a: ComparedRun, b: ComparedRun) -> str | None:
    """Say which images or protocol differ, so that no episode can be the same; None if they agree.

    The seed may differ: runs of the same written episodes have them in common whatever their seeds.
    """
    difference = first_difference(_images_and_protocol(a), _images_and_protocol(b))
    if difference is None:
        return None
    names = [str(run.identity.get("benchmark")) for run in (a, b)]
    of = f" (benchmarks {names[0]} and {names[1]})" if names[0] != names[1] else ""
    return _said(difference) + of


def other_differences(a: ComparedRun, b: ComparedRun, methods: list[tuple[str, str]]) -> list[str]:
    """Say what else differs between the runs, the first difference of each part: backbone, seed, settings of a method.

    Arguments:
        methods: the (method of A, method of B) that are compared; the settings of those of one name are.
    """
    names = sorted((a.identity.keys() | b.identity.keys()) - {"novel_table"})
    parts = [(name, a.identity.get(name), b.identity.get(name)) for name in names]
    parts += [(f"methods.{x}", a.configs.get(x), b.configs.get(y)) for x, y in methods if x == y]
    differences = [first_difference(of_a, of_b, path) for path, of_a, of_b in parts]
    return [_said(difference) for difference in differences if difference is not None]


def _said(difference: tuple[str, str, str]) -> str:
    path, of_a, of_b = difference
    return f"{path} is {of_a} in A and {of_b} in B"


def _images_and_protocol(run: ComparedRun) -> dict[str, Any]:
    protocol = run.identity.get("protocol")
    if isinstance(protocol, dict):
        protocol = {name: value for name, value in protocol.items() if name != "seed"}
    return {"novel_table": run.identity.get("novel_table"), "protocol": protocol}


def _baseline(summary: bytes | None, methods: list[str]) -> str:
    """Return the baseline that `summary.json` names, else logistic regression, else the first method."""
    try:
        named = canonical(str(parse_json(summary or b"{}").get("baseline")))
    except (ValueError, AttributeError):
        named = None
    return next((name for name in (named, BASELINE) if name in methods), methods[0])


def _decoded(location: str, stored: bytes) -> list[Any]:
    return decode_episode_file(stored, f"{location}/{EPISODE_FILE}").episodes

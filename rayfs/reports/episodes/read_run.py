"""What every part of a run's page reads, from the run directory."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rayfs.datasets.episode_file import EpisodeFile, decode_episode_file
from rayfs.errors import InputError
from rayfs.json_text import parse_json
from rayfs.methods.registry import BASELINE, canonical
from rayfs.reports.figure_style import method_colours
from rayfs.runs.rows import Row
from rayfs.runs.run_directory import EPISODE_FILE, SUMMARY, RunDirectory
from rayfs.statistics.summary import looked_at


@dataclass(frozen=True, kw_only=True)
class ReadRun:
    """A run as its page shows it."""

    manifest: dict[str, Any]
    rows: list[Row]
    methods: list[str]
    """In the order of the manifest, those with rows."""
    baseline: str | None
    main: str | None
    """The one whose classes and episodes are shown (`looked_at`)."""
    colours: dict[str, str]
    episodes: EpisodeFile | None
    problem: str
    """Why `episodes` is None; else empty."""


def read_run(run: RunDirectory) -> ReadRun:
    """Return all rows of a run and what is known of them.

    Raises:
        InputError: there is no run or one of its files is damaged; damaged row ids of episodes are a `problem`.
    """
    rows, manifest = run.rows(), run.manifest()
    assert manifest is not None  # rows() refuses what is no run
    with_rows = {row.method for row in rows}
    methods = [name for name in manifest["methods"] if name in with_rows]
    methods += sorted(with_rows - set(methods))
    baseline = _baseline(run, methods)
    episodes, problem = None, f"the run has no {EPISODE_FILE} (an earlier version wrote it); its command adds it"
    if (stored := run.read_file(EPISODE_FILE)) is not None:
        try:
            episodes, problem = decode_episode_file(stored, EPISODE_FILE), ""
            _refuse_other_episodes(episodes, manifest["identity"])
        except InputError as error:
            episodes, problem = None, str(error)
    return ReadRun(
        manifest=manifest, rows=rows, methods=methods, baseline=baseline, main=looked_at(methods, baseline),
        colours=method_colours(methods, baseline), episodes=episodes, problem=problem,
    )  # fmt: skip


def _refuse_other_episodes(episodes: EpisodeFile, identity: Mapping[str, Any]) -> None:
    """Refuse row ids that are not of this run's images, or of episodes of another size."""
    wanted = {"images": identity.get("novel_table"), **identity.get("protocol", {})}
    found = {"images": episodes.fingerprint, **asdict(episodes.protocol)}
    for name in ("images", "n_way", "n_shot", "n_query"):
        if wanted.get(name) not in (None, found[name]):
            raise InputError(f"{EPISODE_FILE} is of another run: its {name} {found[name]}, here {wanted[name]}")


def _baseline(run: RunDirectory, methods: Sequence[str]) -> str | None:
    """Return the baseline that the run's summary names, else the usual one, if it has rows."""
    try:
        named = canonical(str(parse_json(run.read_file(SUMMARY) or b"{}").get("baseline")))
    except (ValueError, AttributeError):
        named = None
    return next((name for name in (named, BASELINE) if name in methods), None)

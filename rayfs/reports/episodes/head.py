"""The head of a run's page: what was run, when, by what commands, with which versions."""

import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rayfs.redaction import without_secrets
from rayfs.reports.document import Block, Code, Facts, Folded, Report, Section
from rayfs.runs.rows import Row

Dates = tuple[datetime, datetime] | None
"""When the first and the last part of the rows were written."""


def run_title(identity: Mapping[str, Any]) -> str:
    """Return benchmark and kind of episode: "omniglot, 10-way 1-shot"."""
    protocol = identity.get("protocol", {})
    return f"{identity.get('benchmark', 'run')}, {protocol.get('n_way', '?')}-way {protocol.get('n_shot', '?')}-shot"


def run_report(
    manifest: Mapping[str, Any], rows: Sequence[Row], baseline: str | None, dates: Dates, location: str,
    sections: Sequence[Section] = (),
) -> Report:  # fmt: skip
    """Return the page of a run with its head: what was run, when, by which commands and versions."""
    return Report(
        title=run_title(manifest["identity"]),
        lead=", ".join(manifest["methods"]),
        facts=_facts(manifest, rows, baseline, dates),
        head=[*_commands(manifest["sessions"]), _settings(manifest["methods"])],
        sections=sections,
        footer="Everything on this page comes from the rows of the run, and its pictures from the image cache.",
        command=shlex.join(["python", "jobs/report.py", location]),
    )


def versions(sessions: Sequence[Mapping[str, Any]]) -> str:
    """Return the versions of the last session: "rayfs 0.1.0, torch 2.15.0"."""
    last = sessions[-1] if sessions else {}
    return ", ".join(f"{name} {version}" for name, version in last.get("versions", {}).items())


def _facts(manifest: Mapping[str, Any], rows: Sequence[Row], baseline: str | None, dates: Dates) -> dict[str, str]:
    identity, sessions = manifest["identity"], manifest["sessions"]
    protocol, backbone, base = (identity.get(name, {}) for name in ("protocol", "backbone", "base"))
    n_episodes, n_distinct = len({row.episode for row in rows}), len({row.episode_hash for row in rows})
    return {
        "Episodes": f"{n_episodes:,} ({n_distinct:,} distinct), {protocol.get('n_way')}-way "
        f"{protocol.get('n_shot')}-shot, {protocol.get('n_query')} queries a class",
        "Split": f"{protocol.get('split')}, seed {protocol.get('seed')}, {identity.get('image_size')} px",
        "Base images": f"{base['n_images']:,} of {len(base.get('classes', []))} classes" if "n_images" in base else "",
        "Backbone": f"{backbone.get('name')}, state {backbone.get('state_hash')}",
        "Baseline": baseline or "none",
        "Rows written": _period(dates),
        "Versions": versions(sessions),
        "Commit": str((sessions[-1] if sessions else {}).get("git_commit") or ""),
    }


def _commands(sessions: Sequence[Mapping[str, Any]]) -> list[Block]:
    commands = [without_secrets(shlex.join(map(str, session.get("command", [])))) for session in sessions]
    *earlier, last = [command for command in commands if command] or [""]
    n = len(earlier)
    older = Folded(f"{n} earlier command{'s' if n > 1 else ''} of this run", [Code(text) for text in earlier])
    return [Code(last), older]


def _settings(methods: Mapping[str, Mapping[str, Any]]) -> Block:
    listed = {
        name: ", ".join(f"{key} {'–' if value is None else value}" for key, value in config.items())
        for name, config in methods.items()
    }
    return Folded("Settings of the methods", [Facts(listed)])


def _period(dates: Dates) -> str:
    if dates is None:
        return ""
    first, last = (date.strftime("%Y-%m-%d %H:%M") for date in dates)
    return f"{first} UTC" if first == last else f"{first} to {last} UTC"

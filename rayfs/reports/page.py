"""The page of a report: headings, facts and boxes; every text that comes from outside is escaped here."""

import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.resources import files
from typing import Any

from rayfs.redaction import without_secrets
from rayfs.reports.figure_style import SERIES, css_colour, palette_css
from rayfs.reports.table_exports import breakable_html, escape_html
from rayfs.runs.rows import Row

MAX_FAILED, ERROR_LINES = 20, 12
"""Most failed rows that are shown, and the last lines of each traceback."""


def page(title: str, sections: Sequence[str], location: str, footer: str | None = None) -> str:
    """Return the whole HTML file.

    Arguments:
        footer: trusted HTML; default: how `jobs/report.py` builds the page of the run at `location` again.
    """
    style = palette_css() + files("rayfs.reports").joinpath("report.css").read_text()
    body = "\n".join(section for section in sections if section)
    rebuild = shlex.join(["python", "jobs/report.py", location])
    footer = footer or (
        "Everything on this page comes from the rows of the run, and its pictures from the image cache. "
        f"<code>{escape_html(rebuild)}</code> builds it again."
    )
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape_html(title)}</title>\n'
        f"<style>\n{style}</style>\n</head>\n<body>\n<main>\n{body}\n"
        f"<footer><p>{footer}</p></footer>\n</main>\n</body>\n</html>\n"
    )


def page_title(identity: Mapping[str, Any]) -> str:
    """Return benchmark and kind of episode: "omniglot, 10-way 1-shot"."""
    protocol = identity.get("protocol", {})
    return f"{identity.get('benchmark', 'run')}, {protocol.get('n_way', '?')}-way {protocol.get('n_shot', '?')}-shot"


def head(
    manifest: Mapping[str, Any], rows: Sequence[Row], baseline: str | None, dates: tuple[datetime, datetime] | None
) -> str:
    """Return the title and what was run: protocol, backbone, when, by what commands, with which versions."""
    identity, sessions = manifest["identity"], manifest["sessions"]
    protocol, backbone, base = (identity.get(name, {}) for name in ("protocol", "backbone", "base"))
    n_episodes, n_distinct = len({row.episode for row in rows}), len({row.episode_hash for row in rows})
    last = sessions[-1] if sessions else {}
    facts = {
        "Episodes": f"{n_episodes:,} ({n_distinct:,} distinct), {protocol.get('n_way')}-way "
        f"{protocol.get('n_shot')}-shot, {protocol.get('n_query')} queries a class",
        "Split": f"{protocol.get('split')}, seed {protocol.get('seed')}, {identity.get('image_size')} px",
        "Base images": f"{base['n_images']:,} of {len(base.get('classes', []))} classes" if "n_images" in base else "",
        "Backbone": f"{backbone.get('name')}, state {backbone.get('state_hash')}",
        "Baseline": baseline or "none",
        "Rows written": _period(dates),
        "Versions": ", ".join(f"{name} {version}" for name, version in last.get("versions", {}).items()),
        "Commit": last.get("git_commit") or "",
    }
    listed = "".join(
        f"<dt>{escape_html(name)}</dt><dd>{escape_html(value)}</dd>" for name, value in facts.items() if value
    )
    return (
        f"<header><h1>{escape_html(page_title(identity))}</h1>\n"
        f'<p class="lead">{escape_html(", ".join(manifest["methods"]))}</p>\n'
        f'<dl class="facts">{listed}</dl>\n{_commands(sessions)}{_settings(manifest["methods"])}</header>'
    )


def section(heading: str, *content: str, text: str = "") -> str:
    """Return a section; empty if all its content is. `text` is trusted HTML."""
    inside = "\n".join(part for part in content if part)
    introduction = f"<p>{text}</p>\n" if text else ""
    return f"<section>\n<h2>{escape_html(heading)}</h2>\n{introduction}{inside}\n</section>" if inside else ""


def plot(svg: str, heading: str, caption: str) -> str:
    """Return a figure with its caption above; empty without a drawing."""
    above = f"<figcaption><b>{escape_html(heading)}</b>{escape_html(caption)}</figcaption>"
    return f'<figure class="plot">{above}{svg}</figure>' if svg else ""


def grid(*plots: str) -> str:
    """Return figures side by side where the page is wide enough."""
    inside = "\n".join(filter(None, plots))
    return f'<div class="grid">\n{inside}\n</div>' if inside else ""


def folded(summary: str, content: str, *, opened: bool = False) -> str:
    """Return a part of the page that opens with a click."""
    return f"<details{' open' if opened else ''}><summary>{escape_html(summary)}</summary>{content}</details>"


def warning(text: str) -> str:
    """Return a sentence that people should not overlook."""
    return f'<p class="warning">{escape_html(text)}</p>'


def plain_table(heading: Sequence[str], lines: Sequence[Sequence[object]], n_texts: int = 1) -> str:
    """Return a table whose first `n_texts` columns are texts and whose others are figures."""
    head_cells = "".join(
        f"<th{' style=text-align:left' if i < n_texts else ''}>{escape_html(text)}</th>"
        for i, text in enumerate(heading)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f"<td class=text>{breakable_html(cell)}</td>" if i < n_texts else f"<td>{escape_html(cell)}</td>"
            for i, cell in enumerate(line)
        )
        + "</tr>\n"
        for line in lines
    )
    return f'<div class="wide"><table><thead><tr>{head_cells}</tr></thead><tbody>{body}</tbody></table></div>'


def failures(rows: Sequence[Row]) -> str:
    """Return the failed rows with the end of their tracebacks; empty if there are none."""
    failed = [row for row in rows if row.status == "failed"]
    if not failed:
        return ""
    parts = []
    for row in failed[:MAX_FAILED]:
        lines = row.error.strip().splitlines()
        where = f", on {row.node} {row.device}".rstrip() if row.node or row.device else ""
        cut = "…\n" if len(lines) > ERROR_LINES else ""
        parts.append(
            f"<h4>{escape_html(f'Episode {row.episode}, {row.method}: failed, attempt {row.attempt}{where}')}</h4>"
            f"<pre>{cut}{escape_html(chr(10).join(lines[-ERROR_LINES:]))}</pre>"
        )
    if len(failed) > MAX_FAILED:
        parts.append(f'<p class="muted">{len(failed) - MAX_FAILED:,} more are in the rows of the run.</p>')
    rows_failed = "1 row" if len(failed) == 1 else f"{len(failed):,} rows"
    text = f"{rows_failed} failed and count in no figure. The run's own command tries them again."
    return section("Failed episodes", *parts, text=text)


def matrix_key(largest_mistake: float) -> str:
    """Return what the depths of colour of a confusion matrix mean; `largest_mistake` is a share."""
    shares = [(css_colour(SERIES[0]), depth, depth**2, "right") for depth in (0.5, 1.0)]
    if largest_mistake > 0:
        mistakes = ((0.25, 1 / 16), (0.5, 1 / 4), (1.0, 1.0))
        shares += [(css_colour(SERIES[1]), depth, part * largest_mistake, "mistaken") for depth, part in mistakes]
    items = "".join(
        f'<span><i style="background:{colour};opacity:{depth:g}"></i>{100 * share:.3g}% {what}</span>'
        for colour, depth, share, what in shares
    )
    return f'<p class="key">{items}</p>'


def _commands(sessions: Sequence[Mapping[str, Any]]) -> str:
    commands = [without_secrets(shlex.join(map(str, session.get("command", [])))) for session in sessions]
    commands = [command for command in commands if command]
    if not commands:
        return ""
    earlier = "".join(f"<pre>{escape_html(command)}</pre>" for command in commands[:-1])
    n = len(commands) - 1
    older = folded(f"{n} earlier command{'s' if n > 1 else ''} of this run", earlier) if earlier else ""
    return f"<pre>{escape_html(commands[-1])}</pre>{older}\n"


def _settings(methods: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [
        (name, ", ".join(f"{key} {'–' if value is None else value}" for key, value in config.items()))
        for name, config in methods.items()
    ]
    listed = "".join(f"<dt>{escape_html(name)}</dt><dd>{escape_html(text)}</dd>" for name, text in lines)
    return folded("Settings of the methods", f'<dl class="facts">{listed}</dl>') + "\n"


def _period(dates: tuple[datetime, datetime] | None) -> str:
    if dates is None:
        return ""
    first, last = (date.strftime("%Y-%m-%d %H:%M") for date in dates)
    return f"{first} UTC" if first == last else f"{first} to {last} UTC"

"""`search.json` of a search: what its rows do not say. What was searched, why trials stopped, and whether test classes
were used."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rayfs.errors import InputError
from rayfs.json_text import parse_json
from rayfs.methods.registry import canonical
from rayfs.runs.race import Race, Stop
from rayfs.runs.run_directory import RunDirectory

SEARCH = "search.json"


@dataclass(kw_only=True)
class SearchState:
    """What is kept of a search beside its rows."""

    searches: list[dict[str, Any]] = field(default_factory=list)
    """What each command searched: spaces, trials, race; the last one last."""
    stops: dict[str, dict[str, Stop]] = field(default_factory=dict)
    """Rule of the race -> trial -> why it stopped. Another rule would have decided otherwise."""
    final: dict[str, Any] | None = None
    """The winner that test classes were used for; None: they were not."""

    def stops_of(self, race: Race) -> dict[str, Stop]:
        """Return the decisions that hold for `race`."""
        return self.stops.setdefault(_rule(race), {}) if race.stopping else {}

    def add_search(self, described: Mapping[str, Any]) -> None:
        """Note what a command searches; once, however often it is repeated."""
        plain = parse_json(json.dumps(described))
        self.searches = [*(each for each in self.searches if each != plain), plain]

    def mark_final(self, winner: str, location: str, episodes: int) -> None:
        """Note that test classes are used for `winner`.

        Raises:
            InputError: they were used for another one.
        """
        if self.final is not None and self.final["winner"] != winner:
            raise InputError(
                f"test classes were used already, by {self.final['winner']} in {self.final['location']}, and the "
                f"winner is now {winner}: a second look would choose on test classes. Report the first; a new search "
                "needs another --out, and its reader should know of this one"
            )
        n_before = self.final["episodes"] if self.final else 0
        self.final = {"winner": winner, "location": location, "episodes": max(n_before, episodes)}


def _rule(race: Race) -> str:
    return f"grace {race.grace}, reduction {race.reduction}"


def read_state(run: RunDirectory) -> SearchState:
    """Return the state of a search, an empty one where there is none yet.

    Raises:
        InputError: the file is damaged.
    """
    stored = run.read_file(SEARCH)
    if stored is None:
        return SearchState()
    try:
        values = parse_json(stored)
        stops = {
            rule: {canonical(trial): Stop(**stop) for trial, stop in trials.items()}
            for rule, trials in values["stops"].items()
        }
        searches = [
            {**each, "method": canonical(each["method"])} if "method" in each else each for each in values["searches"]
        ]
        final = values["final"] and {**values["final"], "winner": canonical(values["final"]["winner"])}
        return SearchState(searches=searches, stops=stops, final=final)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{SEARCH} in {run.location} is damaged ({type(error).__name__}: {error}): it says whether test classes "
            "were used; restore it, or search into another --out"
        ) from None


def write_state(run: RunDirectory, state: SearchState) -> None:
    """Replace `search.json` atomically."""
    run.write_file(SEARCH, json.dumps(asdict(state), indent=2, ensure_ascii=False) + "\n")

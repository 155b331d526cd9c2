"""tune.html: everything that is promised is on it, and nothing on it is taken for markup."""

import re
from html.parser import HTMLParser

import pytest

from rayfs.reports.tuning.figures import draw_panels, draw_parallel, draw_pareto, draw_race
from rayfs.reports.tuning.page import build_page
from rayfs.runs.race import Stop
from rayfs.runs.search_state import SearchState
from rayfs.statistics.trials import Trial

SPACES = {
    "lr": {"low": 0.01, "high": 1.0, "log": True, "integer": False},
    "steps": {"low": 10, "high": 50, "log": False, "integer": True},
    "schedule": {"values": ["constant", "linear"]},
}
HOSTILE = '<script>alert("1")</script>'


def trial(name: str, lr: float, steps: int, schedule: str, gain: float | None, **changes) -> Trial:
    fields = {
        "name": name, "settings": {"lr": lr, "steps": steps, "schedule": schedule}, "state": "finished", "episodes": 24,
        "gain": gain, "half_width": 1.0, "accuracy": 70.0, "seconds": steps / 10,
        "gains": dict.fromkeys(range(24), gain or 0.0),
    }  # fmt: skip
    return Trial(**{**fields, **changes})


STOP = Stop(episodes=8, gain=-1.0, cut=0.5)
TRIALS = [
    trial("m:lr=0.1", 0.1, 20, "linear", 3.0),
    trial("m", 0.02, 50, HOSTILE, 1.0),
    trial(
        "m:lr=0.5",
        0.5,
        10,
        "constant",
        -1.0,
        state="stopped",
        episodes=8,
        gains=dict.fromkeys(range(8), -1.0),
        stop=STOP,
    ),
    trial("m:lr=0.9", 0.9, 10, "constant", None, state="failed", episodes=0, gains={}, seconds=None, accuracy=None),
]


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.seen.append(tag)
        if tag not in ("meta", "path", "use", "br", "wbr", "rect", "i", "line"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag) -> None:
        if tag in self.open:
            while self.open and self.open.pop() != tag:
                pass


def state(final: dict | None = None) -> SearchState:
    race = {"episodes": 24, "grace": 8, "reduction": 3, "block": 8, "stopping": True}
    search = {"method": "m", "search": "random", "seed": 0, "n_trials": 3, "spaces": SPACES, "race": race}
    return SearchState(searches=[search], final=final)


@pytest.fixture(scope="module")
def html() -> str:
    manifest = {
        "identity": {"benchmark": HOSTILE, "protocol": {"n_way": 5, "n_shot": 1, "split": "validation", "seed": 0}},
        "sessions": [{"versions": {"ray": HOSTILE}}],
    }
    final = {"winner": HOSTILE, "location": "runs/tune/final", "episodes": 200}
    command = f"python jobs/x.py --data {HOSTILE}"
    return build_page(manifest, TRIALS, state(final), "lr", command, command)


def test_what_people_look_for_is_there(html):
    text = re.sub(r"<wbr>", "", html)
    assert "winner +3.00 ± 1.00 points over lr on 24 validation episodes" in text
    assert "4: 2 ran 24 episodes; stopped early: 1 after 8 episodes" in text
    for heading in ("Best configuration", "Best 4 of 4 trials", "Gain for its cost", "The race", "Settings",
                    "Stopped trials", "Failed trials"):  # fmt: skip
        assert heading in text
    assert "Test classes were used" in text and "runs/tune/final" in text and "expect less" in text
    assert "m:lr=0.5</td><td>8</td><td>−1.00</td><td>+0.50" in text
    assert html.count("<svg") == 4


def test_no_text_from_outside_is_markup_and_nothing_is_fetched(html):
    tags = Tags()
    tags.feed(html)
    assert "script" not in tags.seen and tags.open == []
    assert html.count("&lt;script&gt;") >= 5 and not re.search(r"(src|href)=.?https?:", html)


def test_the_pareto_front_is_joined_and_places_are_named():
    svg = draw_pareto(TRIALS, TRIALS[0], "lr")
    assert ">#1<" in svg and ">default<" in svg and "gain over lr, points" in svg


def test_the_race_marks_where_trials_stopped():
    with_stop, without = (draw_race(trials, TRIALS[0], [8], "lr") for trials in (TRIALS, TRIALS[:2]))
    assert with_stop.count("<use") > without.count("<use")
    assert draw_race([TRIALS[3]], TRIALS[3], [8], "lr") == ""


def test_every_setting_has_an_axis_and_a_panel():
    for svg in (draw_parallel(TRIALS, TRIALS[0], SPACES), draw_panels(TRIALS, TRIALS[0], SPACES, "lr")):
        assert all(f">{name}<" in svg for name in SPACES) and ">linear<" in svg


def test_one_trial_with_one_setting_can_be_drawn():
    alone, spaces = [TRIALS[0]], {"lr": SPACES["lr"]}
    for svg in (draw_parallel(alone, alone[0], spaces), draw_panels(alone, alone[0], spaces, "lr"),
                draw_pareto(alone, alone[0], "lr"), draw_race(alone, alone[0], [], "lr")):  # fmt: skip
        assert svg.startswith("<svg")

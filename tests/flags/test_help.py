"""What --help prints, job by job, and what it may not import."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

HEADINGS = {
    "benchmark": (
        "What is measured",
        "Images",
        "Backbone",
        "Episodes",
        "Rounds",
        "The two sides",
        "Sizes of single measures",
        "Output",
    ),
    "cache": ("Cache",),
    "compare": ("Runs", "What is compared", "Output"),
    "embed_omniglot": ("Folders",),
    "evaluate_embedding": ("Images", "Episodes", "Backbone", "Classifiers", "Machine", "Output"),
    "label_halluc_eval": ("Images", "Episodes", "Methods", "Backbone", "Workers", "Output"),
    "long_tail_eval": ("Images", "Backbone", "Classifiers", "Search", "Intervals", "Machine", "Output"),
    "paper_table": ("Table", "What it is run on", "Backbone", "Settings of the methods", "Workers", "Output"),
    "pretrain": (
        "Objective",
        "Training, by default with the published values",
        "Validation, which chooses the epoch",
        "Images",
        "Backbone",
        "Workers",
        "Output",
    ),
    "report": ("Run", "Output"),
    "soak": ("Episodes", "Faults", "Output"),
    "tune": ("Method", "Search", "Images", "Episodes", "Stopping losers early", "Backbone", "Cluster", "Output"),
}  # fmt: skip
"""Job -> its headings, in order."""

LINES = {"label_halluc_eval": 79, "pretrain": 125}
"""Most lines of a job's help; others about as many."""

HEAVY = ("torch", "ray", "numpy", "scipy", "pyarrow", "matplotlib", "tyro")

RUN = """
import json, runpy, sys
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as stopped:
    print(json.dumps([stopped.code, [name for name in %r if name in sys.modules]]), file=sys.stderr)
""" % (HEAVY,)  # noqa: UP031 the program has braces


def run(job: str, *words: str) -> tuple[int, list[str], str, str]:
    """Run a job; return its exit code, which heavy packages it imported, and what it printed and complained of."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, f"jobs/{job}.py", *words], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    *complaints, last = done.stderr.splitlines()
    code, heavy = json.loads(last)
    return code, heavy, done.stdout, "\n".join(complaints)


@pytest.mark.parametrize("job", HEADINGS)
def test_help_has_headings_real_defaults_and_no_ragged_line_and_imports_nothing_heavy(job: str) -> None:
    code, heavy, printed, complaints = run(job, "--help")
    lines = printed.splitlines()
    assert (code, heavy, complaints) == (0, [], "")
    assert tuple(line.removesuffix(":") for line in lines if re.fullmatch(r"[A-Z][A-Za-z, ]+:", line)) == HEADINGS[job]
    assert len(lines) <= LINES.get(job, 85)
    assert max(map(len, lines)) <= 100
    assert not re.search(r"\bNone\b|[│╭╰─]|\x1b", printed), "no default of None, no boxes, no colours"
    assert (
        lines[0] == f"usage: python jobs/{job}.py" + {"compare": " A [B]", "report": " RUN"}.get(job, "") + " [FLAGS]"
    )
    flags = [line for line in lines if line.startswith("  --")]
    assert len(flags) == len(set(flags)) > 0 or job == "report"
    for line in lines:
        assert line == line.rstrip()


def test_every_job_is_in_the_table() -> None:
    assert {path.stem for path in (ROOT / "jobs").glob("*.py")} == HEADINGS.keys()


@pytest.mark.parametrize(
    ("job", "words", "heavy", "message"),
    [
        ("label_halluc_eval", "--stps 3", [], "error: there is no flag --stps; did you mean --steps"),
        ("label_halluc_eval", "--help-method maml", [], "error: --help-method is 'maml'; expected one of"),
        ("tune", "--search lucky --out a", ["tyro"], "error: --search is 'lucky'; expected one of random"),
        ("tune", "--method maml --out a", ["tyro"], "error: --method is 'maml'; expected one of"),
    ],
)  # fmt: skip
def test_a_wrong_flag_imports_nothing_that_computes(job: str, words: str, heavy: list[str], message: str) -> None:
    code, imported, printed, complaints = run(job, *words.split())
    assert (code, imported, printed) == (2, heavy, "")
    assert complaints.startswith(message) and "\n" not in complaints

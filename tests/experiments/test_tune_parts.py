"""Parts of the search that need no cluster: flags, proposals, and the books of the race beside Ray's own scheduler."""

import signal
from dataclasses import replace
from types import SimpleNamespace

import pytest

from rayfs.distributed.trackers import PACKAGES, refuse_absent_trackers
from rayfs.distributed.trial import Ledger
from rayfs.errors import InputError, Terminated
from rayfs.experiments.episodes.flags import EvalConfig
from rayfs.experiments.tuning.flags import TuneConfig
from rayfs.experiments.tuning.job import _resumable, paste_command
from rayfs.experiments.tuning.proposals import list_trials
from rayfs.flags.flag import flags_of
from rayfs.flags.parsing import configured, parse
from rayfs.interrupts import sigterm_as_interrupt
from rayfs.randomness import RawStream
from rayfs.runs.race import Race
from rayfs.runs.rows import Row
from rayfs.runs.run_directory import RunDirectory
from rayfs.statistics.race import Rungs
from rayfs.statistics.trials import Trial
from rayfs.workers.trial import LOST, BlockReport, block_report


def config(**flags) -> TuneConfig:
    return configured(TuneConfig, **{"benchmark": "cifar-fs", "recipe": "fast", "n_shot": 5, "out": "runs/x", **flags})


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"split": "test"}, "a search never sees test classes.*--final"),
        ({"method": "magic"}, "--method is 'magic'; expected one of logistic-regression, "),
        ({"hold": ("lr=0.1",)}, "lr is held fixed and searched at once"),
        ({"tune": ("magic",)}, "no space of that name"),
        ({"n_trials": 0}, "--n-trials is 0; expected at least 1"),
        ({"final_episodes": 1}, "--final-episodes is 1; expected at least 2"),
        ({"episodes": 4}, "at least as many episodes as --grace"),
        ({"gpus_per_trial": -1.0}, "--gpus-per-trial is -1.0"),
    ],
)
def test_wrong_flags_are_refused(flags, message):
    with pytest.raises(InputError, match=message):
        config(**flags)


def test_no_flag_leads_a_search_to_test_classes():
    evaluation = config().evaluation(methods=("lr", "label-halluc"), split="validation", episodes=9)
    assert evaluation.protocol.split == "validation" and evaluation.manifest is None
    assert not {"manifest", "novel_classes"} & {flag.name for flag in flags_of(TuneConfig)}


def test_random_trials_start_with_the_default_and_more_of_them_continue():
    few, many = list_trials(config(n_trials=3)), list_trials(config(n_trials=6))
    assert next(iter(few.proposed)) == "label-halluc" and len(few.proposed) == 4
    assert list(many.proposed)[:4] == list(few.proposed) and many.n_more(0) == 0


def test_a_grid_larger_than_the_trials_is_refused():
    assert len(list_trials(config(search="grid", tune=("lr", "head-lr"), grid_points=2)).proposed) == 5
    with pytest.raises(InputError, match="the grid has 243 points but --n-trials is 50"):
        list_trials(config(search="grid"))


def test_the_books_agree_with_the_decisions_of_ray():
    from ray.tune.schedulers import TrialScheduler

    from rayfs.distributed.search import _scheduler

    race = Race(episodes=54, grace=2, reduction=3, block=2)
    scheduler = _scheduler(race)
    scheduler.set_search_properties("gain", "max")
    rungs, n_stopped = Rungs(race=race), 0
    for number in range(30):
        trial = SimpleNamespace(trial_id=f"t{number}")
        scheduler.on_trial_add(None, trial)
        for episodes in race.block_ends:
            gain = RawStream(f"gain {number}", episodes).below(100) / 10
            decision = scheduler.on_trial_result(None, trial, {"episodes": episodes, "gain": gain, "went_on": 0})
            cut = rungs.pass_by(trial.trial_id, episodes, gain)
            if episodes < race.episodes:
                assert (decision == TrialScheduler.STOP) == (cut is not None and gain < cut)
            if decision == TrialScheduler.STOP:
                n_stopped += episodes < race.episodes
                break
    assert n_stopped > 10


def test_a_trial_that_went_on_before_is_not_stopped_by_another_order():
    from ray.tune.schedulers import TrialScheduler

    from rayfs.distributed.search import _scheduler

    scheduler = _scheduler(Race(episodes=8, grace=2, reduction=2, block=2))
    scheduler.set_search_properties("gain", "max")
    first, again, new = (SimpleNamespace(trial_id=name) for name in ("first", "again", "new"))
    for trial in (first, again, new):
        scheduler.on_trial_add(None, trial)

    def decide(trial, episodes, gain, went_on):
        report = {"episodes": episodes, "gain": gain, "went_on": went_on}
        return scheduler.on_trial_result(None, trial, report)

    assert decide(first, 2, 5.0, 0) == TrialScheduler.CONTINUE
    assert decide(again, 2, 1.0, 1) == TrialScheduler.CONTINUE
    assert decide(new, 2, 2.9, 0) == TrialScheduler.STOP, "the cut is the median of 5 and 1"


def test_proposals_are_the_listed_ones_then_those_of_another_searcher():
    from rayfs.distributed.searchers import Proposals

    class Other:
        told: list = []  # noqa: RUF012

        def suggest(self, trial_id):
            return {"lr": 0.0123456}

        def on_trial_complete(self, trial_id, result, error):
            self.told.append(trial_id)

    proposals = Proposals([{}, {"lr": 0.1}], Other(), n_then=1)
    assert [proposals.suggest(f"t{i}") for i in range(3)] == [{}, {"lr": 0.1}, {"lr": 0.0123}]
    assert proposals.suggest("t3") == proposals.FINISHED
    proposals.on_trial_complete("t0", {})
    proposals.on_trial_complete("t2", {})
    assert Other.told == ["t2"]


def test_optuna_proposes_inside_the_spaces_and_learns_from_former_trials():
    pytest.importorskip("optuna")
    from rayfs.experiments.tuning.proposals import searcher

    flags = config(search="optuna", tune=("lr", "steps", "schedule"), space=("steps=50:200",), n_trials=20)
    plan = list_trials(flags)
    assert list(plan.proposed) == ["label-halluc"] and plan.n_more(5) == 15
    former = [
        Trial(name=f"label-halluc:lr={lr}", settings={"lr": lr, "steps": steps, "schedule": "linear"}, state="finished",
              episodes=9, gain=10 * lr, half_width=1.0, accuracy=1.0, seconds=1.0, gains={})
        for lr, steps in ((0.1, 100), (0.2, 60), (9.0, 100))
    ]  # fmt: skip
    proposals = searcher(flags, plan, former, 5)([])
    drawn = [proposals.suggest(f"t{i}") for i in range(16)]
    assert drawn.pop() == proposals.FINISHED
    for settings in drawn:
        assert 0.002 <= settings["lr"] <= 0.3 and 50 <= settings["steps"] <= 200
        assert settings["schedule"] in ("constant", "linear", "cosine")
    assert len({settings["lr"] for settings in drawn}) > 10


def test_a_search_by_optuna_without_it_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("rayfs.experiments.tuning.proposals.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'rayfs\[optuna\]'"):
        list_trials(config(search="optuna"))


def test_a_tracker_that_is_not_installed_is_refused(monkeypatch):
    refuse_absent_trackers(["tensorboard"])
    monkeypatch.setitem(PACKAGES, "mlflow", "mlflow_that_is_nowhere")
    with pytest.raises(InputError, match="pip install mlflow_that_is_nowhere, or drop it from --log-to"):
        refuse_absent_trackers(["mlflow"])


def test_the_command_to_paste_runs_the_winner_beside_the_default():
    import shlex

    flags = config(data="a b", precision="bf16", hold=("base-gradient=head",), seed=3)
    winner = SimpleNamespace(name="label-halluc:lr=0.03,steps=60")
    words = shlex.split(paste_command(flags, winner))
    assert words[:2] == ["python", "jobs/label_halluc_eval.py"]
    parsed = parse(EvalConfig, words[2:])
    assert parsed.methods == ("logistic-regression", "label-halluc", winner.name) and parsed.protocol.split == "test"
    assert parsed.settings == {"precision": "bf16", "base_gradient": "head"} and parsed.recipe == "fast"
    assert (parsed.data.folder, parsed.protocol.seed, parsed.protocol.n_shot) == ("a b", 3, 5)


def test_sigterm_stays_sigterm_where_ray_makes_a_plain_interrupt_of_it(tmp_path, capsys):
    run, former = RunDirectory(str(tmp_path / "run")), signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated), sigterm_as_interrupt(), _resumable(run, ["python", "jobs/tune.py"]):
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise KeyboardInterrupt from None
    assert "Resume with:\n  python jobs/tune.py" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGTERM) is former
    with pytest.raises(KeyboardInterrupt) as caught, _resumable(run, []):
        raise KeyboardInterrupt
    assert not isinstance(caught.value, Terminated)


def test_the_ledger_tells_a_restarted_trial_what_is_done():
    ledger = Ledger({"m:a=1": {0: (0.5, 1.0)}}, {"m:a=1": 8})
    ledger.add("m:a=1", {1: (0.6, 1.0)})
    ledger.add("m:a=2", {0: (0.7, 2.0)})
    assert ledger.known("m:a=1") == ({0: (0.5, 1.0), 1: (0.6, 1.0)}, 8)
    assert ledger.known("m:a=2") == ({0: (0.7, 2.0)}, None) and ledger.known("m") == ({}, None)


def test_a_report_is_paired_and_a_failure_reports_the_worst_gain():
    done, baseline = {0: (0.6, 1.0), 1: (0.8, 3.0), 2: (0.9, 9.0)}, {0: 0.5, 1: 0.6, 2: 0.6}
    row = Row(episode=1, method="m", status="ok", accuracy=0.8, episode_hash="h", config_hash="c")
    report = block_report("m", 2, done, baseline, [row])
    assert (report.episodes, report.n_run, report.failed, report.seconds) == (2, 1, 0, 2.0)
    assert report.gain == pytest.approx(15.0) and report.accuracy == pytest.approx(70.0)
    assert report.half_width == pytest.approx(12.706 * 5, rel=1e-3)  # t(0.975, 1) · 7.07 / √2
    assert BlockReport.of({**vars(report), "done": True}) == report, "Ray Tune adds its own"
    lost = replace(row, status="failed", accuracy=None, error="boom")
    assert block_report("m", 2, done, baseline, [row, lost]).gain == LOST

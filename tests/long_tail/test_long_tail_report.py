"""Rows, tables and the page of an evaluation, without Ray and without images on disk."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from small_problem import COUNTS, small_problem

from rayfs.long_tail.centres import compose
from rayfs.long_tail.ensemble import predict
from rayfs.long_tail.groups import class_groups
from rayfs.long_tail.mismatches import mismatched
from rayfs.long_tail.search import best_setting, score_settings
from rayfs.long_tail.search_space import TransferSetting, TransferSpace, distinct_thresholds, draw_settings
from rayfs.long_tail.settings import TUNED, paper_classifiers, unseen_classifiers
from rayfs.reports.long_tail import report
from rayfs.reports.long_tail.projection import project
from rayfs.reports.long_tail.report import build_page
from rayfs.reports.long_tail.tables import long_tail_files, long_tail_text, published_table
from rayfs.runs.class_rows import CLASSES, class_rows
from rayfs.runs.long_tail_results import CheckpointResult, LongTailResults, TunedEnsemble
from rayfs.runs.parts import encode_part
from rayfs.statistics.long_tail_summary import summarise_long_tail

HOSTILE = "<script>alert('x')</script>|*_"
THRESHOLDS = (0, 9, 20)


def checkpoint(name: str, search: bool = False, doubt: float = 1.0) -> CheckpointResult:
    """Evaluate the small problem, one class of which has a hostile name; `doubt` turns the head towards another."""
    problem, scale = small_problem(), 16.0
    names = (*problem.centres.class_names[:-1], HOSTILE)
    turned = problem.centres.weights_CD + (1 - doubt) * problem.centres.weights_CD.flip(1)
    centres = replace(problem.centres, class_names=names, weights_CD=turned)
    classifiers = paper_classifiers(THRESHOLDS, 10.0, True)
    members = [member for classifier in classifiers.values() for member in classifier]
    answers = predict(problem.test_ND, classifiers, compose(centres, members), scale)
    tuned = None
    if search:
        given = TransferSetting(thresholds=THRESHOLDS)
        settings = [*draw_settings(TransferSpace(block=20), distinct_thresholds(COUNTS), 0, 60), given]
        groups = class_groups(np.array(COUNTS))
        scored = score_settings(problem.test_ND, problem.test_labels_N, centres, groups, settings)
        best = best_setting(scored[:-1], "all")
        tuned = TunedEnsemble(
            best=best, scored=scored[:-1], reference=scored[-1], objective="all", n_images=84, seconds=1
        )
        made = compose(centres, best.setting.classifier, own_neighbour=best.setting.own_neighbour)
        answers |= predict(problem.test_ND, {TUNED: best.setting.classifier}, made, scale)
    return CheckpointResult(
        name=name, state_hash=f"hash-{name}", centres=centres, answers=answers, mismatched_C=mismatched(centres),
        tuned=tuned,
    )  # fmt: skip


def unseen_checkpoint(unseen: set[int]) -> CheckpointResult:
    """Evaluate the small problem by a head that does not know some classes."""
    problem = small_problem()
    seen_C = torch.tensor([c not in unseen for c in range(len(COUNTS))])
    weights_CD = problem.centres.weights_CD * seen_C[:, None]
    centres = replace(problem.centres, seen_C=seen_C, weights_CD=weights_CD)
    classifiers = unseen_classifiers(THRESHOLDS, 10.0, True)
    members = [member for classifier in classifiers.values() for member in classifier]
    answers = predict(problem.test_ND, classifiers, compose(centres, members), 16.0)
    return CheckpointResult(
        name="u", state_hash="hash-u", centres=centres, answers=answers, mismatched_C=mismatched(centres)
    )


def results(*checkpoints: CheckpointResult, benchmark: str = "cifar100-lt") -> LongTailResults:
    table = paper_classifiers if checkpoints[0].centres.seen.all() else unseen_classifiers
    return LongTailResults(
        benchmark=benchmark, split="test", backbone="resnet32", class_names=checkpoints[0].centres.class_names,
        counts_C=np.array(COUNTS), labels_N=small_problem().test_labels_N.numpy(), borders="paper",
        choice=TransferSetting(thresholds=THRESHOLDS),
        classifiers=table(THRESHOLDS, 10.0, True), checkpoints=checkpoints, n_resamples=200,
    )  # fmt: skip


@pytest.fixture(scope="module")
def tuned() -> LongTailResults:
    return results(checkpoint("a", search=True))


def test_the_summary_has_every_classifier_and_survives_json(tuned) -> None:
    summary = json.loads(json.dumps(summarise_long_tail(tuned).to_json(), allow_nan=False))
    names = ["cosine", "prototypes", "classifier + prototype", "w^h(0)", "w^h(9)", "w^h(20)", "ensemble"]
    assert list(summary["classifiers"]) == [*names, "w^hc(9)", "w^hc(20)", "continual ensemble", "tuned ensemble"]
    answers, labels = tuned.checkpoints[0].answers, tuned.labels_N
    few = np.array(COUNTS)[labels] <= 20
    for name, figures in summary["classifiers"].items():
        assert figures["accuracy"]["few"]["value"] == pytest.approx(100 * (answers[name] == labels)[few].mean())
        assert figures["accuracy"]["many"]["value"] is None
        low, high = (figures["accuracy"]["few"][end] for end in ("low", "high"))
        assert low <= figures["accuracy"]["few"]["value"] <= high and low < high
    difference = summary["classifiers"]["ensemble"]["accuracy"]["few"]["value"]
    difference -= summary["classifiers"]["cosine"]["accuracy"]["few"]["value"]
    assert summary["gain"]["few"]["value"] == pytest.approx(difference) and difference != 0
    assert summary["gain"] == summary["classifiers"]["ensemble"]["gain"]


def test_several_checkpoints_give_means_with_intervals_over_them() -> None:
    first, second = checkpoint("a"), checkpoint("b", doubt=0.6)
    summary = summarise_long_tail(results(first, second)).to_json()
    single = [summarise_long_tail(results(one)).to_json()["gain"]["few"]["value"] for one in (first, second)]
    found = summary["gain"]["few"]
    assert single[0] != single[1] and found["value"] == pytest.approx(np.mean(single))
    half = 12.706 * np.std(single, ddof=1) / np.sqrt(2)
    assert found["high"] - found["value"] == pytest.approx(half, rel=1e-3)
    assert "mean of 2 checkpoints" in long_tail_text(summary) and "over checkpoints." in long_tail_text(summary)


def test_tables_show_the_same_figures_and_escape_names(tuned) -> None:
    summary = summarise_long_tail(tuned).to_json()
    figure = summary["classifiers"]["ensemble"]["accuracy"]["few"]
    shown = f"{figure['value']:.1f} [{figure['low']:.1f}, {figure['high']:.1f}]"
    files = long_tail_files(summary)
    assert shown in long_tail_text(summary) and shown in files["table.md"].replace("\\[", "[").replace("\\]", "]")
    rows = {row["classifier"]: row for row in csv.DictReader(io.StringIO(files["table.csv"]))}
    assert float(rows["ensemble"]["accuracy_few_value"]) == figure["value"]
    assert rows["cosine"]["gain_few_value"] == "" and rows["cosine"]["accuracy_many_value"] == ""
    assert "Ensemble minus cosine classifier on the 5 few-shot classes" in long_tail_text(summary)
    assert "published" not in long_tail_text(summary)


def test_published_figures_stand_beside_those_of_their_benchmark() -> None:
    summary = summarise_long_tail(results(checkpoint("a"), benchmark="imagenet-lt")).to_json()
    assert "ensemble (tables 1 and 2, ResNeXt-50, square root)" in long_tail_text(summary)
    assert ["ensemble (tables 1 and 2, ResNeXt-50, square root)", "63.2", "52.1", "36.9", "54.2"] in published_table(
        "imagenet-lt"
    ).lines
    assert len(published_table("places-lt").lines) == 4 * 7 + 6 + 1 and published_table("cifar100-lt").lines == []


def test_rows_give_the_accuracies_again(tuned) -> None:
    table = pq.read_table(io.BytesIO(encode_part(CLASSES, class_rows(tuned)))).to_pylist()
    assert len(table) == 11 * len(COUNTS)
    of = [row for row in table if row["classifier"] == "ensemble"]
    assert [row["n_train"] for row in of] == list(COUNTS) and of[-1]["class"] == HOSTILE
    assert [row["group"] for row in of] == ["medium", "medium", "few", "few", "few", "few", "few"]
    right = (tuned.checkpoints[0].answers["ensemble"] == tuned.labels_N).sum()
    assert sum(row["n_correct"] for row in of) == right and sum(row["n_test"] for row in of) == len(tuned.labels_N)


@pytest.mark.parametrize("pictures", [True, False])
def test_the_page_is_whole_escaped_and_refers_to_nothing(tuned, pictures) -> None:
    images = np.zeros((len(COUNTS), 8, 8, 3), dtype=np.uint8) if pictures else None
    command = ["python", "job.py", "--out", "s3://me:secret@b/x"]
    page = build_page(tuned, summarise_long_tail(tuned).to_json(), command, images)
    for heading in (
        "Result",
        "Classes",
        "Semantic neighbours",
        "Prototypes that disagree",
        "Tuned on validation images",
    ):
        assert f"<h2>{heading}</h2>" in page
    assert "<script" not in page and "&lt;script&gt;" in page and "secret" not in page
    assert "http" not in page.replace("http://www.w3.org", "") and "src=" not in page
    assert page.count("<svg") == 3 and ("data:image/png" in page) == pictures and "nan" not in page.lower()


FEW = {2, 3, 4, 5, 6}


@pytest.mark.parametrize("unseen", [FEW, {1, 5}], ids=["few", "named"])
def test_unseen_classes_are_plain_in_every_output(unseen) -> None:
    """The cosine classifier has no figure for a group with classes that it does not know; gains are on prototypes."""
    found = results(unseen_checkpoint(unseen), benchmark="imagenet-lt")
    summary = json.loads(json.dumps(summarise_long_tail(found).to_json(), allow_nan=False))
    answers, labels = found.checkpoints[0].answers, found.labels_N
    assert summary["unseen"] == [f"class {c}" for c in sorted(unseen)]
    assert summary["gain_of"] == {"classifier": "continual ensemble", "baseline": "prototypes"}
    assert ("unseen" in summary["groups"]) == (unseen != FEW), "where it differs from the few-shot group"
    group = "few" if unseen == FEW else "unseen"
    of_group = np.isin(labels, list(unseen))
    right = {name: (given == labels)[of_group] for name, given in answers.items()}
    gain = 100 * (right["continual ensemble"].mean() - right["prototypes"].mean())
    assert summary["gain"][group]["value"] == pytest.approx(gain)
    cosine = summary["classifiers"]["cosine"]
    given = {name for name, figure in cosine["accuracy"].items() if figure["value"] is not None}
    assert cosine["gain"] is None and given == ({"medium"} if unseen == FEW else set())
    text, kind = long_tail_text(summary), "few-shot" if unseen == FEW else "unseen"
    assert f"{len(unseen)} of 7 classes were not seen in training{', the few-shot ones' * (unseen == FEW)}:" in text
    assert f"Continual ensemble minus prototypes on the {len(unseen)} {kind} classes" in text
    assert "vs prototypes" in text and "vs cosine" not in text and "w^h(" not in text
    assert published_table("imagenet-lt", unseen=True).lines[0][1:] == ["66.0", "40.8", "–", "–"]
    assert "cosine (table 2, ResNeXt-50, few-shot classes left out of training)" in text and "table 1" not in text
    csv_rows = {row["classifier"]: row for row in csv.DictReader(io.StringIO(long_tail_files(summary)["table.csv"]))}
    assert csv_rows["cosine"]["accuracy_all_value"] == "" != csv_rows["prototypes"]["accuracy_all_value"]
    rows = pq.read_table(io.BytesIO(encode_part(CLASSES, class_rows(found)))).to_pylist()
    assert {row["class_id"] for row in rows if not row["seen"]} == unseen
    unanswered = [(r["classifier"], r["class_id"]) for r in rows if r["n_correct"] is None]
    assert unanswered == [("cosine", c) for c in sorted(unseen)], "not 0: it cannot be right"
    page = build_page(found, summary, ["python", "job.py"], None)
    assert f"<dd>{len(unseen)} classes, of " in page and "have no weights" in page and "nan" not in page.lower()


def test_the_plane_has_no_weights_of_unseen_classes(monkeypatch) -> None:
    planes, draw = [], report.draw_plane
    monkeypatch.setattr(report, "draw_plane", lambda plane, *given: (planes.append(plane), draw(plane, *given))[1])
    found = results(unseen_checkpoint(FEW))
    build_page(found, summarise_long_tail(found).to_json(), ["job"], None)
    absent = np.isnan(planes[0]).all(axis=2)
    assert {(kind, c) for kind, c in np.argwhere(absent).tolist()} == {(0, c) for c in FEW}


def test_few_points_are_projected_too() -> None:
    for n in (1, 2, 5, 12):
        plane, how = project(np.random.Generator(np.random.Philox(n)).normal(size=(n, 4)))
        assert plane.shape == (n, 2) and np.isfinite(plane).all() and (how == "PCA") == (n < 8)

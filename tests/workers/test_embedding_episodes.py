"""Blocks of episodes: what is left to do, rows that depend on their episode alone, failures that stay alone."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from rayfs.datasets.augmentation import apply_views, draw_views, normalize, plain_view
from rayfs.datasets.episodes import Episode, draw_episode
from rayfs.engine.bank import BaseBank, embed_table
from rayfs.engine.features import embed
from rayfs.engine.table_views import embed_range, n_ranges
from rayfs.errors import InputError
from rayfs.experiments.embeddings import job as driver
from rayfs.experiments.embeddings.experiment import EmbeddingEval, prepare_evaluations
from rayfs.experiments.embeddings.flags import EmbeddingEvalConfig
from rayfs.flags.parsing import configured
from rayfs.hashing import stable_hash
from rayfs.methods.classifiers import registry
from rayfs.methods.classifiers.predict import predict, prepare_features
from rayfs.randomness import torch_generator
from rayfs.runs.rows import Row, scientific_columns
from rayfs.workers import embedding_episodes as module
from rayfs.workers.embedding_episodes import Block, BlockSolver, missing_blocks

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def evaluation(cache_dir: Path) -> EmbeddingEval:
    """Five-way one-shot episodes of validation characters."""
    config = configured(
        EmbeddingEvalConfig, split="validation", n_shot=(1,), episodes=30, support_views=5, device="cpu"
    )
    return prepare_evaluations(config, cache_dir)[0]


@pytest.fixture(scope="module")
def banks(evaluation: EmbeddingEval) -> tuple[BaseBank, BaseBank]:
    """The features of images and views, made in this process."""
    table, spec = evaluation.novel, evaluation.backbone
    backbone = spec.load(CPU)
    plain = embed_table(table, backbone, lambda images: normalize(plain_view(images), spec.mean, spec.std), CPU)
    ranges = range(n_ranges(len(table)))
    views = [embed_range(table, r, backbone, spec.mean, spec.std, CPU, evaluation.views)[1] for r in ranges]
    return tuple(
        BaseBank(table=table, features=features, path=Path("unused")) for features in (plain, np.concatenate(views))
    )


@pytest.fixture
def solver(evaluation: EmbeddingEval, banks: tuple[BaseBank, BaseBank]) -> BlockSolver:
    return BlockSolver(*banks, evaluation.methods, CPU)


def test_only_missing_pairs_are_left_to_do(evaluation) -> None:
    episodes = evaluation.episodes()[:7]
    completed = {(0, "lr"), (0, "svm"), (5, "svm")}
    blocks = [
        ([episode.index for episode in block.episodes], block.classifiers)
        for block in missing_blocks(episodes, ("lr", "svm"), completed, size=3)
    ]
    assert blocks == [
        ([1, 2, 3], ("lr", "svm")),
        ([4], ("lr", "svm")),
        ([5], ("lr",)),
        ([6], ("lr", "svm")),
    ]
    everything = {(episode.index, name) for episode in episodes for name in ("lr", "svm")}
    assert not list(missing_blocks(episodes, ("lr", "svm"), everything, size=3))


def test_large_features_are_solved_in_smaller_blocks(evaluation, solver, monkeypatch) -> None:
    episode = evaluation.episodes()[0]
    assert solver.block_size(episode) == module.BLOCK
    monkeypatch.setattr(module, "BLOCK_BYTES", 3 * 8 * 64 * (5 * 5 + 75))
    assert solver.block_size(episode) == 3
    monkeypatch.setattr(module, "BLOCK_BYTES", 1)
    assert solver.block_size(episode) == 1


def test_rows_do_not_depend_on_the_block(evaluation, solver) -> None:
    episodes = evaluation.episodes()
    together = solver.solve(Block(episodes=episodes, classifiers=registry.names()))
    alone = [row for e in episodes for row in solver.solve(Block(episodes=[e], classifiers=registry.names()))]
    assert len(together) == 150 and all(row.status == "ok" for row in together)
    assert scientific_columns(together) == scientific_columns(alone)


def test_gpu_solves_the_same_block(evaluation, solver, banks, gpu) -> None:
    block = Block(episodes=evaluation.episodes()[:9], classifiers=registry.names())
    found, expected = (each.solve(block) for each in (BlockSolver(*banks, evaluation.methods, gpu), solver))
    assert all(row.status == "ok" for row in found)
    same = sum(one.predictions == other.predictions for one, other in zip(found, expected, strict=True))
    assert same >= len(found) - 2  # the last bits may decide between two classes


def test_support_and_queries_are_the_features_of_the_episode(evaluation, solver, banks) -> None:
    episode = evaluation.episodes()[4]
    rows = {row.method: row for row in solver.solve(Block(episodes=[episode], classifiers=registry.names()))}
    plain, views = (bank.features for bank in banks)
    unit = [array / np.linalg.norm(array, axis=-1, keepdims=True) for array in (plain, views)]
    means = unit[1][episode.support_ids].mean(axis=(1, 2))
    nearest = [int(np.argmin(((means - unit[0][q]) ** 2).sum(axis=1))) for q in episode.query_ids.ravel()]
    assert rows["prototype"].predictions == nearest
    assert rows["prototype"].labels == np.repeat(np.arange(5), 15).tolist()
    assert rows["prototype"].accuracy == np.mean(np.array(nearest) == np.repeat(np.arange(5), 15))
    for name, row in rows.items():
        assert row.episode_hash == episode.hash and row.config_hash == stable_hash(evaluation.methods[name])


def test_a_row_is_of_its_settings(evaluation) -> None:
    config = evaluation.methods["logistic-regression"]
    changes = {"c": 2.0, "normalize": False, "support_views": 6, "view_seed": 1}
    assert asdict(config).keys() == {"classifier", *changes}
    assert len({stable_hash(replace(config, **{name: value})) for name, value in changes.items()}) == 4


def test_a_classifier_that_fails_on_one_episode_fails_there_alone(evaluation, solver, monkeypatch) -> None:
    episodes = evaluation.episodes()[:6]
    poisoned = solver._features([episodes[2]])[2]

    def fail_on_one(config, support, labels, query):
        if config.classifier == "svm" and any(torch.equal(one, poisoned[0]) for one in query):
            raise ArithmeticError("no optimum")
        return predict(config, support, labels, query)

    monkeypatch.setattr(module, "predict", fail_on_one)
    rows = solver.solve(Block(episodes=episodes, classifiers=("logistic-regression", "svm")))
    failed = [(row.episode, row.method) for row in rows if row.status == "failed"]
    assert failed == [(2, "svm")] and len(rows) == 12
    assert "no optimum" in next(row.error for row in rows if row.error)


def test_the_same_views_for_all_episodes_do_not_shift_the_mean(evaluation, solver, banks) -> None:
    """The deviation of `table_views.py`, against views drawn anew in every episode, on 200 episodes."""
    episodes = [
        draw_episode(evaluation.novel.offsets, evaluation.novel.fingerprint, evaluation.protocol, i)
        for i in range(1000, 1200)
    ]
    rows = solver.solve(Block(episodes=episodes, classifiers=("logistic-regression",)))
    fresh = accuracy_with_fresh_views(evaluation, banks[0], episodes)
    differences = 100 * (np.array([row.accuracy for row in rows]) - fresh)
    standard_error = differences.std(ddof=1) / np.sqrt(len(differences))
    assert standard_error < 0.35
    assert abs(differences.mean()) < 3 * standard_error


def accuracy_with_fresh_views(evaluation: EmbeddingEval, plain: BaseBank, episodes: list[Episode]) -> np.ndarray:
    """Return the accuracy of lr on each episode, with five new views of its support images, as in the released code."""
    spec, augmentation = evaluation.backbone, evaluation.benchmark.augmentation
    backbone, labels = spec.load(CPU), torch.arange(5).repeat_interleave(5)
    accuracies = []
    for episode in episodes:
        images = evaluation.novel.take(episode.support_ids.repeat(5))
        drawn = draw_views(len(images), augmentation, torch_generator(0, "fresh", episode.index))
        prepare: Callable[[torch.Tensor], torch.Tensor] = lambda x, drawn=drawn: normalize(  # noqa: E731
            apply_views(x, augmentation, drawn), spec.mean, spec.std
        )
        support = prepare_features(embed(backbone, images, prepare, CPU, batch=len(images)), True)
        query = prepare_features(plain.take_features(episode.query_ids.ravel()), True)
        found = predict(evaluation.methods["logistic-regression"], support[None], labels, query[None])
        accuracies.append(float((found[0] == torch.arange(5).repeat_interleave(15)).float().mean()))
    return np.array(accuracies)


def test_features_that_are_not_finite_are_refused_with_the_count(banks) -> None:
    features = np.array(banks[0].features)
    features[[3, 300], 5] = np.nan
    with pytest.raises(InputError, match="2 of 340 images features that are not finite"):
        driver.refuse_not_finite(replace(banks[0], features=features))
    driver.refuse_not_finite(banks[0])


def test_ray_is_not_started_for_cached_features(evaluation, cache_dir, banks, monkeypatch) -> None:
    for bank, views in zip(banks, (None, evaluation.views), strict=True):
        path = driver.features_path(cache_dir, evaluation.novel, evaluation.backbone, False, views)
        path.parent.mkdir(exist_ok=True)
        np.save(path, bank.features)
    monkeypatch.setattr(driver, "ray_session", lambda: pytest.fail("Ray was started"))
    plain, support = driver.feature_banks(evaluation, cache_dir)
    assert plain.features.shape == (340, 64) and support.features.shape == (340, 5, 64)


@pytest.mark.parametrize(
    ("out", "expected"),
    [
        ("runs/a", "runs/a/5-shot"),
        ("runs/a/", "runs/a/5-shot"),
        ("s3://bucket/run?region=eu", "s3://bucket/run/5-shot?region=eu"),
    ],
)
def test_each_number_of_shots_has_its_run_directory(out: str, expected: str) -> None:
    assert driver.run_location(out, 5) == expected


def test_without_out_rows_are_kept_without_their_predictions(evaluation, banks, capsys) -> None:
    rows: list[Row] = driver.run_evaluation(evaluation, *banks, None, [])
    assert len(rows) == 150 and all(row.accuracy is not None and not row.predictions for row in rows)
    printed = capsys.readouterr().out
    assert "done 30/30 | logistic-regression" in printed and "Seconds: episodes" in printed

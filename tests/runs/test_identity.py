"""What makes two runs the same: everything that changes a row is compared, and its form on disk stays."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rayfs.errors import InputError
from rayfs.experiments.embeddings.experiment import prepare_evaluations
from rayfs.experiments.embeddings.flags import EmbeddingEvalConfig
from rayfs.experiments.episodes.experiment import Experiment
from rayfs.runs.identity import CosineNetwork, LongTailIdentity, SettingsSearchIdentity
from rayfs.runs.run_directory import RunDirectory


def other_benchmark(**changes: Any) -> Callable[[Experiment], Experiment]:
    return lambda experiment: replace(experiment, benchmark=replace(experiment.benchmark, **changes))


def other_augmentation(**changes: Any) -> Callable[[Experiment], Experiment]:
    def change(experiment: Experiment) -> Experiment:
        benchmark = experiment.benchmark
        return replace(
            experiment, benchmark=replace(benchmark, augmentation=replace(benchmark.augmentation, **changes))
        )

    return change


CHANGES: dict[str, Callable[[Any], Any]] = {
    "benchmark": other_benchmark(name="other"),
    "image_size": other_benchmark(image_size=99),
    "augmentation.jitter": other_augmentation(jitter=0.123),
    "augmentation.rotation_deg": other_augmentation(rotation_deg=89.0),
    "base.n_images": lambda e: replace(e, n_base=e.n_base + 1),
    "protocol.n_query": lambda e: replace(e, protocol=replace(e.protocol, n_query=e.protocol.n_query + 1)),
    "protocol.seed": lambda e: replace(e, protocol=replace(e.protocol, seed=e.protocol.seed + 1)),
    "backbone.name": lambda e: replace(e, backbone=replace(e.backbone, name="other")),
    "backbone.state_hash": lambda e: replace(e, backbone=replace(e.backbone, state_hash="other")),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_run_of_episodes_with_another_setting_is_another_run(
    name: str, experiment: Experiment, tmp_path: Path
) -> None:
    RunDirectory(str(tmp_path)).open(experiment.identity(), {}, {}).close()
    with pytest.raises(InputError, match=rf"holds a run with other settings: {name} was "):
        RunDirectory(str(tmp_path)).open(CHANGES[name](experiment).identity(), {}, {})


@pytest.mark.parametrize("name", [name for name in CHANGES if not name.startswith("base")])
def test_an_evaluation_of_an_embedding_with_another_setting_is_another_run(
    name: str, cache_dir: Path, tmp_path: Path
) -> None:
    (evaluation,) = prepare_evaluations(EmbeddingEvalConfig(n_shot=(1,), episodes=2, split="validation"), cache_dir)
    RunDirectory(str(tmp_path)).open(evaluation.identity(), {}, {}).close()
    with pytest.raises(InputError, match=rf"holds a run with other settings: {name} was "):
        RunDirectory(str(tmp_path)).open(CHANGES[name](evaluation).identity(), {}, {})


def test_the_manifest_says_of_a_run_what_it_said_before(experiment: Experiment) -> None:
    """Runs of earlier versions resume, so every name and value counts."""
    stored = experiment.identity().to_json()
    assert list(stored) == ["benchmark", "image_size", "base", "novel_table", "protocol", "augmentation", "backbone"]
    assert stored["benchmark"] == "omniglot" and stored["novel_table"] == experiment.novel.fingerprint
    assert list(stored["base"]) == ["classes", "n_images"] and stored["base"]["n_images"] == experiment.n_base
    assert list(stored["protocol"]) == ["n_way", "n_shot", "n_query", "split", "seed"]
    assert list(stored["backbone"]) == ["name", "state_hash"] and stored["augmentation"]["jitter"] == 0.0


def test_identities_of_a_long_tail_are_flat() -> None:
    network = CosineNetwork(state_hash="s", head_hash="h")
    evaluation = LongTailIdentity(settings={"tau": 10.0}, tables={"test": "t"}, checkpoints=[network])
    search = SettingsSearchIdentity(tables={"test": "t"}, network=network, seed=3)
    of_network = {"state_hash": "s", "head_hash": "h"}
    assert evaluation.to_json() == {"tau": 10.0, "tables": {"test": "t"}, "checkpoints": [of_network]}
    assert search.to_json() == {"tables": {"test": "t"}, **of_network, "seed": 3}

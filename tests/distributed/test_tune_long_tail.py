"""Tuning of knowledge transfer: flags, the files of a search, and a search on a small ImageNet-LT with Ray Tune."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from rayfs.errors import InputError
from rayfs.experiments.long_tail.flags import LongTailEvalConfig
from rayfs.experiments.tuning import long_tail
from rayfs.experiments.tuning.flags import TuneConfig
from rayfs.experiments.tuning.long_tail import evaluation_config, paste_command
from rayfs.experiments.tuning.long_tail_flags import transfer_space
from rayfs.flags.groups import BackboneFlags
from rayfs.flags.parsing import configured, parse
from rayfs.hashing import stable_hash
from rayfs.long_tail.search import ScoredSetting
from rayfs.long_tail.search_space import TransferSetting, TransferSpace
from rayfs.long_tail.settings import TERMS
from rayfs.reports.long_tail.search_page import build_search_page
from rayfs.runs.block_rows import BLOCKS, BlockRow
from rayfs.runs.long_tail_results import TunedEnsemble
from rayfs.runs.run_directory import RunDirectory
from rayfs.runs.search_blocks import BlockStore

IDENTITY = {"tables": {"base": "a"}, "seed": 0}
SETTING = TransferSetting(thresholds=(3, 9), tau=7.25, terms=TERMS[:2], attention="w-p", own_neighbour=False)


def scored(value: float, **changes) -> ScoredSetting:
    return ScoredSetting(setting=replace(SETTING, **changes), accuracy={"few": value / 2, "all": value})


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"n_way": 5}, "--n-way changes nothing with --method compositional"),
        ({"hold": ("steps=5",)}, "--hold changes nothing"),
        ({"space": ("k=0:5",)}, "it is tau=LOW:HIGH"),
        ({"space": ("tau=5:1",)}, "it is tau=LOW:HIGH"),
        ({"space": ("tau=0:1",)}, "it is tau=LOW:HIGH"),
        ({"split": "test"}, "a search never sees test classes"),
    ],
)
def test_flags_of_episodes_and_impossible_spaces_are_refused(flags, expected) -> None:
    with pytest.raises(InputError, match=expected):
        configured(TuneConfig, method="compositional", benchmark="cifar100-lt", out="x", **flags)


def test_flags_become_a_space_and_an_evaluation() -> None:
    config = configured(
        TuneConfig, method="compositional", benchmark="cifar100-lt", space=("tau=2:8:log",), seed=3, out="x"
    )
    assert transfer_space(config.space) == TransferSpace(tau=(2.0, 8.0))
    assert evaluation_config(config) == configured(LongTailEvalConfig, seed=3)
    other = replace(config, backbone=BackboneFlags(checkpoint=Path("a.pth")))
    assert evaluation_config(other) == configured(LongTailEvalConfig, seed=3, checkpoint=("a.pth",), backbone="conv4")


def test_the_command_to_paste_gives_the_setting_back() -> None:
    config = configured(TuneConfig, method="compositional", benchmark="cifar100-lt", out="x")
    words = paste_command(config, evaluation_config(config), SETTING).split()
    assert words[:2] == ["python", "jobs/long_tail_eval.py"]
    assert parse(LongTailEvalConfig, words[2:]).setting == SETTING


def opened(out: str) -> RunDirectory[BlockRow]:
    return RunDirectory(out, BLOCKS).open(IDENTITY, {"command": []})


def test_blocks_are_found_again_and_those_of_every_space_count(tmp_path: Path) -> None:
    out, wide = str(tmp_path / "search"), TransferSpace(tau=(1.0, 500.0))
    with opened(out) as run:
        store = BlockStore(run, IDENTITY)
        store.add(TransferSpace(), 0, [scored(10.0)])
        store.add(wide, 0, [scored(20.0), scored(30.0, thresholds=(1,))])
        assert store.has(wide, 0)
    with opened(out) as run:
        again = BlockStore(run, IDENTITY)
        assert again.has(TransferSpace(), 0) and again.has(wide, 0) and not again.has(wide, 1)
        assert sorted(s.accuracy["all"] for s in again.scored()) == [10.0, 20.0, 30.0]
        assert scored(30.0, thresholds=(1,)) in again.scored()
        again.mark_final({"tau": 7.25}, {"command": []})
        with pytest.raises(InputError, match="another process is writing this run"):
            opened(out)
    with opened(out) as run:
        assert BlockStore(run, IDENTITY).final == {"tau": 7.25}


def test_other_searches_foreign_files_and_damage_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "search"
    with opened(str(out)) as run:
        BlockStore(run, IDENTITY).add(TransferSpace(), 0, [scored(1.0)])
    with pytest.raises(InputError, match="seed was 0 and is now 1"):
        RunDirectory(str(out), BLOCKS).open({**IDENTITY, "seed": 1}, {})
    whole = (out / "search.json").read_text()
    (out / "search.json").write_text("{}")
    with opened(str(out)) as run, pytest.raises(InputError, match="it says whether test images were used"):
        BlockStore(run, IDENTITY)
    (out / "search.json").unlink()
    with opened(str(out)) as run, pytest.raises(InputError, match=r"no search.json, which says whether test images"):
        BlockStore(run, IDENTITY)
    (out / "search.json").write_text(whole)
    next((out / "blocks").iterdir()).write_text("[{}]")
    with pytest.raises(InputError, match=r"part-000000.parquet cannot be read: .* if it is damaged, delete it"):
        opened(str(out))
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match=r"holds 1 files \(thesis.tex ...\)"):
        opened(str(tmp_path / "foreign"))


def test_a_search_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    """It wrote a block as JSON, and had no manifest."""
    (tmp_path / "blocks").mkdir()
    name = f"{stable_hash(TransferSpace())}-000001.json"
    (tmp_path / "blocks" / name).write_text(json.dumps([asdict(scored(1 / 3)), asdict(scored(20.0))]))
    (tmp_path / "search.json").write_text(json.dumps({"long_tail": IDENTITY, "final": {"tau": 1.0}}))
    with pytest.raises(InputError, match="seed was 0 and is now 1"):
        RunDirectory(str(tmp_path), BLOCKS).open({**IDENTITY, "seed": 1}, {})
    for _ in range(2):
        with opened(str(tmp_path)) as run:
            store = BlockStore(run, IDENTITY)
            assert store.has(TransferSpace(), 1) and not store.has(TransferSpace(), 0)
            assert store.scored() == [scored(1 / 3), scored(20.0)] and store.final == {"tau": 1.0}
    assert sorted(path.name for path in (tmp_path / "blocks").iterdir()) == [name, "part-000000.parquet"]


def test_a_damaged_search_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "blocks").mkdir()
    (tmp_path / "search.json").write_text("{")
    with pytest.raises(InputError, match="it says whether test images were used"):
        opened(str(tmp_path))
    (tmp_path / "search.json").write_text(json.dumps({"long_tail": IDENTITY, "final": None}))
    (tmp_path / "blocks" / "ab-000000.json").write_text("[{}]")
    with opened(str(tmp_path)) as run, pytest.raises(InputError, match=r"ab-000000.json .* is damaged .*remove it"):
        BlockStore(run, IDENTITY)


def test_the_page_shows_the_best_first_and_escapes() -> None:
    found = [scored(11.0, tau=2.0), scored(31.0), scored(21.0, tau=50.0)]
    tuned = TunedEnsemble(best=found[1], scored=found, reference=scored(15.0), objective="all", n_images=9, seconds=1.0)
    page = build_search_page("<b>", tuned, "python <job>", ["python", "s3://k:secret@b"])
    assert "python &lt;job&gt;" in page and "<b>," not in page and "secret" not in page and "<svg" in page
    assert page.index(">31.00<") < page.index(">21.00<") < page.index(">11.00<")


def test_the_final_lies_below_the_search_with_the_credentials_and_options_of_its_uri(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Test images are said to be used before they are, and another winner is refused."""
    asked: list[LongTailEvalConfig] = []

    @contextmanager
    def opened_final(chosen: LongTailEvalConfig, *given: object) -> Iterator[None]:
        asked.append(chosen)
        yield None

    monkeypatch.setattr(long_tail, "opened", opened_final)
    for name in ("open_images", "evaluate"):
        monkeypatch.setattr(long_tail, name, lambda *given: None)
    tuned = TunedEnsemble(
        best=scored(3.0), scored=[scored(3.0)], reference=scored(2.0), objective="all", n_images=9, seconds=1.0
    )
    config = configured(
        TuneConfig, method="compositional", benchmark="cifar100-lt", out="s3://key:secret@bucket/x?region=eu"
    )
    with opened(str(tmp_path)) as run:
        store = BlockStore(run, IDENTITY)
        kept = []
        monkeypatch.setattr(long_tail, "report", lambda *given: kept.append(run.read_file("search.json")))
        long_tail._final(config, (0,), None, None, tuned, store, ["python", "job"])
        assert asked[0].out == "s3://key:secret@bucket/x/final?region=eu" and asked[0].split == "test"
        assert json.loads(kept[0])["final"]["tau"] == SETTING.tau
        other = replace(tuned, best=scored(3.0, tau=1.5))
        with pytest.raises(InputError, match="test images were used already"):
            long_tail._final(config, (0,), None, None, other, store, ["python", "job"])

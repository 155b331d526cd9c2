"""Rows of an evaluation of long-tailed recognition: one for each checkpoint, classifier and class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from rayfs.errors import InputError
from rayfs.json_text import parse_json
from rayfs.long_tail.accuracy import class_scores
from rayfs.runs.identity import Identity
from rayfs.runs.long_tail_results import LongTailResults
from rayfs.runs.row_kind import Done, RowKind
from rayfs.runs.run_directory import SUMMARY
from rayfs.runs.storage import Storage, is_temporary

LONG_TAIL = "long_tail"
"""Key of `summary.json` that holds the identity."""


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """What one classifier of one checkpoint answered to the test images of one class."""

    checkpoint: str
    state_hash: str
    """Of the checkpoint's network."""
    classifier: str
    class_: str
    """Name of the class."""
    group: str
    """The first group that the class is in: many, medium, few or unseen."""
    class_id: int
    n_train: int
    n_test: int
    n_correct: int | None
    """None, rather than 0, where the classifier cannot give the class."""
    seen: bool
    """Whether the network was trained on the class."""

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What it is the result of."""
        return self.checkpoint, self.state_hash, self.classifier, self.class_id

    @property
    def finished(self) -> bool:
        """All rows are: they are counts of a whole evaluation."""
        return True


def class_rows(results: LongTailResults) -> list[ClassRow]:
    """Return the rows of all checkpoints, classifier by classifier, class by class."""
    n_classes = len(results.class_names)
    group_of = np.full(n_classes, "", dtype=object)
    for name, members_C in results.groups.items():
        group_of[members_C & (group_of == "")] = name
    rows = []
    for checkpoint in results.checkpoints:
        for classifier, answers_N in checkpoint.answers.items():
            scores, answered_C = class_scores(answers_N, results.labels_N, n_classes), results.answered(classifier)
            rows += [
                ClassRow(
                    checkpoint=checkpoint.name, state_hash=checkpoint.state_hash, classifier=classifier,
                    class_=results.class_names[c], group=str(group_of[c]), class_id=c,
                    n_train=int(results.counts_C[c]), n_test=int(scores.n_C[c]),
                    n_correct=int(scores.correct_C[c]) if answered_C[c] else None, seen=bool(results.seen_C[c]),
                )
                for c in range(n_classes)
            ]  # fmt: skip
    return rows


def _described(rows: Sequence[ClassRow]) -> str:
    return f"{len({row.checkpoint for row in rows})} checkpoints, {len({row.class_id for row in rows})} classes"


def _former_identity(storage: Storage, names: Sequence[str]) -> dict[str, Any] | None:
    """Return the identity in the `summary.json` of an evaluation that was written before it had a manifest.

    Raises:
        InputError: the folder holds other files.
    """
    named = [name for name in names if not is_temporary(name) and not name.startswith(".")]
    if not named:
        return None
    try:
        identity = parse_json(storage.read(SUMMARY))[LONG_TAIL] if SUMMARY in named else None
    except (ValueError, KeyError, TypeError):
        identity = None
    if not isinstance(identity, dict):
        raise InputError(
            f"--out {storage.root} holds other files ('{named[0]}') and no evaluation of long-tailed recognition; give "
            "an empty or a new folder"
        )
    return identity


CLASSES: RowKind[ClassRow] = RowKind(
    name="classes of a long tail",
    file="classes.parquet",
    schema=pa.schema(
        [
            *((name, pa.string()) for name in ("checkpoint", "state_hash", "classifier", "class", "group")),
            *((name, pa.int64()) for name in ("class_id", "n_train", "n_test", "n_correct")),
            ("seen", pa.bool_()),
        ]
    ),
    row=ClassRow,
    origin=Done.of,
    origin_columns=("checkpoint", "state_hash", "classifier", "class_id"),
    origin_of=lambda row: Done(row.key),
    described=_described,
    former_identity=_former_identity,
)
"""All rows of an evaluation are computed at once."""


def summary_of(identity: Identity, summary: Mapping[str, Any], session: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of `summary.json`: the figures between what was evaluated and by what command."""
    return {LONG_TAIL: identity.to_json(), **summary, "session": dict(session)}

"""What `summary.json` says of a run of episodes: what was run, and its figures."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rayfs.datasets.episodes import Protocol
from rayfs.runs.identity import NetworkIdentity
from rayfs.statistics.joint_summary import JointFigures, joint_to_json
from rayfs.statistics.summary import RunSummary


@dataclass(frozen=True, kw_only=True)
class EpisodesSummary:
    """The summary of a run of episodes."""

    benchmark: str
    protocol: Protocol
    n_episodes: int
    """That the command asked for."""
    backbone: NetworkIdentity
    figures: RunSummary
    joint: Mapping[str, JointFigures] = field(default_factory=dict)
    """Method -> joint recognition, where it was asked for."""

    def to_json(self) -> dict[str, Any]:
        """Return the content of `summary.json`."""
        summary = {
            "benchmark": self.benchmark,
            "protocol": {**asdict(self.protocol), "episodes": self.n_episodes},
            "backbone": asdict(self.backbone),
            **self.figures.to_json(),
        }
        return {**summary, "joint": joint_to_json(self.joint)} if self.joint else summary

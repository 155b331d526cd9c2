"""What makes two runs the same run: one frozen dataclass for each kind of result, and its form in `manifest.json`.

What is not in an identity may differ when a run resumes: workers, devices, threads, where the files lie. Methods are
compared one by one, beside it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from rayfs.datasets import episodes

if TYPE_CHECKING:  # it imports torch, which readers of runs do without
    from rayfs.datasets.augmentation import Augmentation


class Identity(Protocol):
    """Any of the identities below."""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values; every one of them is compared."""


@dataclass(frozen=True, kw_only=True)
class NetworkIdentity:
    """A backbone and its weights."""

    name: str
    state_hash: str


@dataclass(frozen=True, kw_only=True)
class BaseImages:
    """The base images that methods may use."""

    classes: Sequence[str]
    n_images: int


@dataclass(frozen=True, kw_only=True)
class EpisodesIdentity:
    """Of a run of episodes."""

    benchmark: str
    image_size: int
    base: BaseImages | None = None
    """None: no method sees base images, as in the evaluation of an embedding."""
    novel_table: str
    """Fingerprint of the image table that episodes are drawn from."""
    protocol: episodes.Protocol
    augmentation: "Augmentation"
    """Of the benchmark: what views of support and base images may be."""
    backbone: NetworkIdentity

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        plain = asdict(self)
        if self.base is None:
            del plain["base"]
        return plain


@dataclass(frozen=True, kw_only=True)
class CosineNetwork:
    """A backbone's weights and those of its cosine head."""

    state_hash: str
    head_hash: str


@dataclass(frozen=True, kw_only=True)
class LongTailIdentity:
    """Of an evaluation of long-tailed recognition."""

    settings: Mapping[str, Any]
    """Flags that change a figure."""
    tables: Mapping[str, str]
    """Split -> fingerprint of its image table."""
    checkpoints: Sequence[CosineNetwork]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            **self.settings, "tables": dict(self.tables), "checkpoints": [asdict(each) for each in self.checkpoints],
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SettingsSearchIdentity:
    """Of a search over settings of knowledge transfer."""

    tables: Mapping[str, str]
    """Split -> fingerprint of its image table."""
    network: CosineNetwork
    seed: int
    """Of the settings that are drawn."""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"tables": dict(self.tables), **asdict(self.network), "seed": self.seed}

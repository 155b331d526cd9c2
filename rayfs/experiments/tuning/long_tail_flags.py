"""How the flags of `jobs/tune.py` are read for compositional knowledge transfer. No torch and no Ray here."""

from typing import TYPE_CHECKING, Any

from rayfs.errors import InputError
from rayfs.experiments.long_tail.flags import LongTailEvalConfig
from rayfs.flags.flag import flags_of
from rayfs.flags.groups import BackboneFlags, DeviceFlags
from rayfs.flags.parsing import flag_values
from rayfs.long_tail.search_space import TransferSpace

if TYPE_CHECKING:
    from rayfs.experiments.tuning.flags import TuneConfig

COMPOSITIONAL = "compositional"
"""What --method calls it."""

UNUSED = (
    "n_way", "n_shot", "n_query", "recipe", "hold", "tune", "search", "grid_points", "episodes", "grace",
    "reduction", "block", "asha", "gpus_per_trial", "final_episodes", "log_to", "wait_for_nodes",
)  # fmt: skip
"""Flags of searches over episodes, which there are none of."""


def refuse_unused(config: "TuneConfig") -> None:
    """Refuse flags that change nothing here.

    Raises:
        InputError: one was given, or --space is not of tau.
    """
    defaults, values = {flag.name: flag.default for flag in flags_of(type(config))}, flag_values(config)
    given = [*(name for name in UNUSED if values[name] != defaults[name]), *config.settings]
    if given:
        raise InputError(
            f"--{given[0].replace('_', '-')} changes nothing with --method {COMPOSITIONAL}, whose settings are scored "
            "on all validation images at once; drop it"
        )
    transfer_space(config)


def transfer_space(config: "TuneConfig") -> TransferSpace:
    """Return what is searched: sets of thresholds, terms, neighbours, and τ from --space tau=LOW:HIGH."""
    if not config.space:
        return TransferSpace()
    name, _, limits = config.space[0].partition("=")
    try:
        low, high = map(float, limits.removesuffix(":log").split(":"))
    except ValueError:
        low, high = 0.0, 0.0
    if len(config.space) > 1 or name != "tau" or not 0 < low <= high:
        raise InputError(
            f"--space is '{' '.join(config.space)}'; with --method {COMPOSITIONAL} it is tau=LOW:HIGH, two positive "
            "numbers: thresholds and terms are searched whole"
        )
    return TransferSpace(tau=(low, high))


def evaluation_config(config: "TuneConfig", **changes: Any) -> LongTailEvalConfig:
    """Return what `jobs/long_tail_eval.py` would be told.

    The backbone that --backbone names by default is that of few-shot episodes; without a checkpoint it is the one of
    the long tail that the package has an embedding of.
    """
    backbone = config.backbone
    own = {} if backbone == BackboneFlags() else {"backbone": backbone.name}
    return LongTailEvalConfig(
        data=config.data, checkpoint=(str(backbone.checkpoint),) if backbone.checkpoint else (),
        seed=config.protocol.seed, compute=DeviceFlags(threads=config.cpus_per_trial), **{**own, **changes},
    )  # fmt: skip

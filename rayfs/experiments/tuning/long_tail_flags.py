"""How the flags of `jobs/tune.py` are read for compositional knowledge transfer. No torch and no Ray here."""

from collections.abc import Sequence

from rayfs.errors import InputError
from rayfs.long_tail.search_space import TransferSpace

COMPOSITIONAL = "compositional"
"""What --method calls it."""

UNUSED = (
    "n_way", "n_shot", "n_query", "recipe", "hold", "tune", "search", "grid_points", "episodes", "grace",
    "reduction", "block", "asha", "gpus_per_trial", "final_episodes", "log_to", "wait_for_nodes",
)  # fmt: skip
"""Flags of searches over episodes, which there are none of."""


def refuse_unused(given: Sequence[str], space: Sequence[str]) -> None:
    """Refuse flags that change nothing here.

    Arguments:
        given: those of `UNUSED` that have another value than their default, and all settings of methods.

    Raises:
        InputError: one was given, or --space is not of tau.
    """
    if given:
        raise InputError(
            f"--{given[0].replace('_', '-')} changes nothing with --method {COMPOSITIONAL}, whose settings are scored "
            "on all validation images at once; drop it"
        )
    transfer_space(space)


def transfer_space(space: Sequence[str]) -> TransferSpace:
    """Return what is searched: sets of thresholds, terms, neighbours, and τ from `space`, ("tau=LOW:HIGH",) or nothing.

    Raises:
        InputError: it is not of tau.
    """
    if not space:
        return TransferSpace()
    name, _, limits = space[0].partition("=")
    try:
        low, high = map(float, limits.removesuffix(":log").split(":"))
    except ValueError:
        low, high = 0.0, 0.0
    if len(space) > 1 or name != "tau" or not 0 < low <= high:
        raise InputError(
            f"--space is '{' '.join(space)}'; with --method {COMPOSITIONAL} it is tau=LOW:HIGH, two positive "
            "numbers: thresholds and terms are searched whole"
        )
    return TransferSpace(tau=(low, high))

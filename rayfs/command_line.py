"""What every job shares: flags from a frozen dataclass, one clear message for wrong input, the exit code."""

import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import tyro

from rayfs.errors import InputError, Terminated
from rayfs.redaction import without_secrets

EXIT_OK, EXIT_FAILED, EXIT_WRONG_INPUT, EXIT_INTERRUPTED, EXIT_TERMINATED = 0, 1, 2, 130, 143

ConfigT = TypeVar("ConfigT")


def run_job(
    main: Callable[[ConfigT], int],
    config_class: type[ConfigT],
    description: str | None,
    argv: Sequence[str] | None = None,
) -> int:
    """Parse `argv` into `config_class`, call `main`, and return the exit code.

    0 done, 1 something failed (results say what), 2 wrong input (one message on standard error, no traceback), 130
    interrupted (Ctrl-C), 143 terminated (SIGTERM).
    """
    try:
        config = tyro.cli(config_class, args=argv, description=description)
        return main(config)
    except InputError as error:
        print(f"error: {without_secrets(str(error))}", file=sys.stderr)
        return EXIT_WRONG_INPUT
    except KeyboardInterrupt as error:
        return EXIT_TERMINATED if isinstance(error, Terminated) else EXIT_INTERRUPTED

"""What every job shares: flags from a frozen dataclass, one clear message for wrong input, the exit code."""

import os
import select
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import tyro

from rayfs.errors import InputError, Terminated
from rayfs.redaction import without_secrets

EXIT_OK, EXIT_FAILED, EXIT_WRONG_INPUT, EXIT_INTERRUPTED, EXIT_UNREAD, EXIT_TERMINATED = 0, 1, 2, 130, 141, 143

ConfigT = TypeVar("ConfigT")


def run_job(
    main: Callable[[ConfigT], int],
    config_class: type[ConfigT],
    description: str | None,
    argv: Sequence[str] | None = None,
) -> int:
    """Parse `argv` into `config_class`, call `main`, and return the exit code.

    0 done, 1 something failed (results say what), 2 wrong input (one message on standard error, no traceback), 130
    interrupted (Ctrl-C), 141 nobody reads what is printed any more (`| head`), 143 terminated (SIGTERM).
    """
    try:
        try:
            config = tyro.cli(config_class, args=argv, description=description)
            return main(config)
        finally:
            sys.stdout.flush()  # else a reader that is gone would be noticed at the very end only
    except InputError as error:
        print(f"error: {without_secrets(str(error))}", file=sys.stderr)
        return EXIT_WRONG_INPUT
    except BrokenPipeError:
        if not _is_unread():
            raise
        return EXIT_UNREAD
    except KeyboardInterrupt as error:
        return EXIT_TERMINATED if isinstance(error, Terminated) else EXIT_INTERRUPTED


def _is_unread() -> bool:
    """Tell whether standard output has lost its reader; then nothing more goes there, also not at the very end."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), select.POLLERR)
    if not poll.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True

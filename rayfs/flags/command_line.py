"""What every job shares: flags from a frozen dataclass, help, one clear message for wrong input, the exit code."""

import os
import select
import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, replace
from pathlib import Path
from typing import TypeVar

from rayfs.errors import InputError, Terminated
from rayfs.flags.flag import Catalogue, Flag, catalogue_of, flags_of
from rayfs.flags.help_text import help_page
from rayfs.flags.parsing import parse, parsed_values
from rayfs.redaction import without_secrets

EXIT_OK, EXIT_FAILED, EXIT_WRONG_INPUT, EXIT_INTERRUPTED, EXIT_UNREAD, EXIT_TERMINATED = 0, 1, 2, 130, 141, 143

ConfigT = TypeVar("ConfigT")


def run_job(
    main: Callable[[ConfigT], int],
    config_class: type[ConfigT],
    description: str | None,
    argv: Sequence[str] | None = None,
) -> int:
    """Parse `argv` into `config_class`, call `main`, and return the exit code; or print the help that is asked for.

    Arguments:
        config_class: frozen dataclass of the job's flags (`rayfs.flags.flag`).
        description: the docstring of the job's script, for its help.
        argv: words of the command line; None: those of this process.

    0 done, 1 something failed (results say what), 2 wrong input (one message on standard error, no traceback), 130
    interrupted (Ctrl-C), 141 nobody reads what is printed any more (`| head`), 143 terminated (SIGTERM).
    """
    try:
        try:
            words = list(sys.argv[1:] if argv is None else argv)
            help_text = asked_help(config_class, description, words)
            if help_text is not None:
                print(help_text)
                return EXIT_OK
            return main(parse(config_class, words))
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


def asked_help(config_class: type, description: str | None, words: Sequence[str]) -> str | None:
    """Return the help that `words` ask for: of the job, or with --help-method of one method; None where they do not.

    Raises:
        InputError: the help of a thing that does not exist.
    """
    catalogue = catalogue_of(config_class)
    for place, word in enumerate(words):
        if word in ("-h", "--help"):
            return help_page(config_class, description, _job_name())
        name, _, value = word.partition("=")
        if catalogue and name.replace("_", "-") == f"--help-{catalogue.word}":
            rest = [*words[:place], *words[place + 1 :]] if value else [*words[:place], *words[place + 2 :]]
            return _entry_help(config_class, catalogue, value or "".join(words[place + 1 : place + 2]), rest)
    return None


def _entry_help(config_class: type, catalogue: Catalogue, name: str, rest: Sequence[str]) -> str:
    known = catalogue.entries()
    proper = next((own for own, entry in known.items() if name in (own, *entry.aliases)), None)
    if proper is None:
        raise InputError(f"--help-{catalogue.word} is '{name}'; expected one of {', '.join(known)}")
    return catalogue.describe(proper, parsed_values([_not_required(flag) for flag in flags_of(config_class)], rest))


def _not_required(flag: Flag) -> Flag:
    return replace(flag, hint=flag.hint | None, default=None) if flag.default is MISSING else flag


def _job_name() -> str:
    """Return how the job is called, from the folder that its commands are given in."""
    script = Path(sys.argv[0])
    return f"jobs/{script.name}" if script.parent.name == "jobs" else str(script)


def _is_unread() -> bool:
    """Tell whether standard output has lost its reader; then nothing more goes there, also not at the very end."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), select.POLLERR)
    if not poll.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True

"""Exceptions that jobs turn into exit codes."""


class InputError(Exception):
    """Wrong input: what was given, what was expected, what to do, with the numbers.

    Jobs print the message alone and exit with code 2. No ValueError: the command-line parser would catch that itself
    and print it another way. It takes a single argument so that it survives pickling
    between Ray processes.
    """


class Terminated(KeyboardInterrupt):
    """SIGTERM as an exception, so that it unwinds and saves like Ctrl-C."""

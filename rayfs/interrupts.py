"""SIGTERM as an exception, so that a job that is ended saves what it has."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rayfs.errors import Terminated


@contextmanager
def sigterm_as_interrupt() -> Iterator[Callable[[], None]]:
    """Turn SIGTERM into an exception inside the block; whatever handled it before does so again after.

    Yields:
        What takes SIGTERM over again: to be called after something else has installed a handler of its own.

    Raises:
        Terminated: on SIGTERM, also where a library makes a plain KeyboardInterrupt of it.
    """
    received: list[int] = []

    def interrupt(signal_number: int, frame: object) -> None:
        received.append(signal_number)
        raise Terminated("SIGTERM")

    def take_over() -> None:
        signal.signal(signal.SIGTERM, interrupt)

    former = signal.getsignal(signal.SIGTERM)
    take_over()
    try:
        yield take_over
    except KeyboardInterrupt as error:
        if received and not isinstance(error, Terminated):
            raise Terminated("SIGTERM") from error
        raise
    finally:
        signal.signal(signal.SIGTERM, former)

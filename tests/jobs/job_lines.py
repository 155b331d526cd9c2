"""What a running job prints."""

import subprocess
import threading
from queue import Empty, Queue

import pytest


class Lines:
    """What a process prints, line by line, without waiting for ever."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.seen: list[str] = []
        self._queue: Queue[str] = Queue()
        assert process.stdout is not None
        stream = process.stdout
        threading.Thread(target=lambda: [self._queue.put(line) for line in stream], daemon=True).start()

    def until(self, *texts: str) -> str:
        """Return the first line with one of `texts`; fails if none comes in three minutes."""
        while True:
            try:
                line = self._queue.get(timeout=180)
            except Empty:
                pytest.fail(f"none of {texts} was printed:\n{''.join(self.seen)}")
            self.seen.append(line)
            if any(text in line for text in texts):
                return line

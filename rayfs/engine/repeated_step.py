"""A step that is taken again and again: on a GPU captured once as a CUDA graph and replayed, without a launch each.

Small networks finish their kernels faster than Python launches them; a replay launches them all at once. The steps
before the capture are real steps, too: nothing is run for warming up alone, and nothing has to be undone.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from rayfs.engine.stages import REPLAY, stage, timed_by
from rayfs.errors import InputError

EAGER_STEPS = 3
"""Before the capture: they fill caches, choose algorithms and make the buffers of the optimiser."""

_streams: dict[torch.device, torch.cuda.Stream] = {}
"""One a device, that steps are captured on."""


class RepeatedStep:
    """Calls `function` again and again, inside `replayable`.

    Arguments:
        function: without arguments; what differs between calls it reads from tensors that are always at the same place.
        device: a GPU, where the step is to be captured.
        generators: all that the function draws from, on that device.
        captured: False calls the function every time.
    """

    def __init__(
        self, function: Callable[[], Tensor], device: torch.device, generators: Iterable[torch.Generator],
        captured: bool,
    ) -> None:  # fmt: skip
        self._function, self._device, self._generators = function, device, list(generators)
        self._captured, self._n_eager = captured, 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._result = torch.empty(0)

    def __call__(self) -> Tensor:
        """Take a step and return its result, which later steps leave alone."""
        if not self._captured or self._n_eager < EAGER_STEPS:
            self._n_eager += 1
            return self._function()
        with stage(REPLAY):
            if self._graph is None:
                self._graph = self._capture()
            self._graph.replay()
        return self._result.clone()

    def _capture(self) -> torch.cuda.CUDAGraph:
        """Record the step; nothing of it is run. The graph has memory of its own, and as much as eager steps have."""
        graph = torch.cuda.CUDAGraph()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # newer versions of PyTorch see for themselves
            for generator in self._generators if hasattr(graph, "register_generator_state") else ():
                graph.register_generator_state(generator)
        torch.cuda.synchronize(self._device)
        torch.cuda.empty_cache()  # no memory is given back while a graph is captured
        graph.capture_begin(capture_error_mode="thread_local")
        try:
            with timed_by(None):
                self._result = self._function()
        finally:
            graph.capture_end()
        return graph


@contextmanager
def replayable(device: torch.device, captured: bool) -> Iterator[None]:
    """Run the block on the stream that steps are captured on, if any is; nothing of a graph may stay on another.

    Raises:
        InputError: the device cannot replay.
    """
    if not captured:
        yield
        return
    if device.type != "cuda":
        raise InputError(f"a step cannot be captured on '{device.type}', only on a GPU; use --execution eager")
    if device not in _streams:
        _streams[device] = torch.cuda.Stream(device)
    stream = _streams[device]
    torch.cuda.empty_cache()  # what the graph of an episode before has held
    stream.wait_stream(torch.cuda.current_stream(device))
    try:
        with torch.cuda.stream(stream):
            yield
    finally:
        torch.cuda.current_stream(device).wait_stream(stream)

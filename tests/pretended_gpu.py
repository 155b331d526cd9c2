"""A GPU that is none: on a machine without one, code for GPUs meets what a GPU refuses.

Tensors "on the GPU" lie in the memory of the CPU and carry a mark, so that results are those of a CPU. Refused as by
CUDA: operands on both devices, a generator of the other device, arrays of tensors that are not on the host; while a
graph is captured: reading a result, masks as indices, whatever comes from the host. A graph is the list of what was
computed, backward pass and optimiser included; a replay computes it again into the same tensors, whatever Python would
have done by then.

It shows nothing of speed, of CUDA's arithmetic, or of what happens where the host runs ahead of the GPU.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
NAME = "pretended GPU"

TO_HOST = {
    "item", "tolist", "cpu", "numpy", "__array__", "__bool__", "__float__", "__int__", "__index__", "nonzero", "unique",
    "masked_select", "equal", "allclose",
}  # fmt: skip
"""What waits for the GPU: its result depends on values there, or is on the host."""

PLAIN = {
    "__repr__", "__format__", "__len__", "__hash__", "size", "dim", "numel", "stride", "is_contiguous", "is_pinned",
    "data_ptr", "element_size", "storage_offset", "item", "tolist", "__bool__", "__float__", "__int__", "__index__",
}  # fmt: skip
"""What gives no tensor."""

MIXED = {"copy_", "__setitem__", "__getitem__", "__get__", "__set__", "_has_compatible_shallow_copy_type"}
"""What may take tensors of both devices."""


def is_pretended() -> bool:
    """Tell, where there is a GPU, whether it is this one: it draws the CPU's numbers."""
    return torch.cuda.get_device_name() == NAME


def is_there(tensor: Tensor) -> bool:
    """Tell whether a tensor is on the pretended GPU."""
    return tensor.__dict__.get("pretended", False)


def put(tensor: Any, there: bool) -> Any:
    """Mark a tensor, and nothing else, as being there or not."""
    if isinstance(tensor, Tensor):
        tensor.__dict__["pretended"] = there
    return tensor


class Generator(torch.Generator):
    """A generator of either device."""

    def __new__(cls, device: torch.device | str = "cpu") -> "Generator":
        made = super().__new__(cls, "cpu")
        made.there = torch.device(device).type == "cuda"
        return made

    def __init__(self, device: torch.device | str = "cpu") -> None:
        pass

    @property
    def device(self) -> torch.device:
        return GPU if self.there else CPU


class Placement(TorchFunctionMode):
    """Knows where each tensor is, and refuses what a GPU would refuse."""

    def __torch_function__(self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs, name, owner = kwargs or {}, func.__name__, getattr(getattr(func, "__self__", None), "__name__", "")
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        there = [tensor for tensor in tensors if is_there(tensor)]
        if name == "__get__" and owner in ("device", "is_cuda", "is_cpu"):
            return {"device": GPU if there else CPU, "is_cuda": bool(there), "is_cpu": not there}[owner]
        target = _target(name, args, kwargs)
        refuse(name, args, kwargs, tensors, there, target)
        if name in PLAIN:
            return func(*args, **kwargs)
        if name == "pin_memory":
            return args[0]
        if name in ("to", "cpu", "cuda"):
            return _move(func, name, args, kwargs, target)
        if name == "__deepcopy__":
            return put(func(*args, **kwargs), is_there(args[0]))
        given = tree_map(lambda leaf: CPU if isinstance(leaf, torch.device) else leaf, kwargs)
        result = func(*args, **given)
        if name == "__set__" and owner == "data":
            put(args[0], is_there(args[1]))
        elif name not in ("__set__", "__setitem__", "copy_"):
            on_gpu = is_there(args[0]) if name == "__getitem__" else bool(there)
            on_gpu = on_gpu if target is None else target.type == "cuda"
            tree_map(lambda leaf: put(leaf, True) if on_gpu else leaf, result)
        return result


def _target(name: str, args: tuple, kwargs: dict) -> torch.device | None:
    """Return the device that a call names, if it names one."""
    if name in ("cpu", "cuda"):
        return torch.device(name)
    named = kwargs.get("device")
    if name == "to":
        for argument in args[1:]:
            if isinstance(argument, torch.device | str):
                named = argument
            elif isinstance(argument, Tensor):
                named = GPU if is_there(argument) else CPU
    return None if named is None else torch.device(named)


def _move(func: Callable, name: str, args: tuple, kwargs: dict, target: torch.device | None) -> Tensor:
    """Return args[0] where `target` says, a copy if it was elsewhere; a change of dtype or layout is made, too."""
    source, there = args[0], is_there(args[0])
    to_gpu = there if target is None else target.type == "cuda"
    moved = source
    if name == "to":
        plain = [CPU if isinstance(argument, torch.device | str) else argument for argument in args[1:]]
        moved = func(source, *plain, **{**kwargs, **({"device": CPU} if "device" in kwargs else {})})
    if to_gpu != there and moved.data_ptr() == source.data_ptr():
        moved = moved.clone(memory_format=torch.preserve_format)
    return put(moved, to_gpu)


def refuse(
    name: str, args: tuple, kwargs: dict, tensors: list[Tensor], there: list[Tensor], target: torch.device | None
) -> None:
    """Raise where CUDA would."""
    here = [tensor for tensor in tensors if not is_there(tensor)]
    shapes = f"{name}: on the GPU {[tuple(x.shape) for x in there]}, on the host {[tuple(x.shape) for x in here]}"
    if there and name in ("numpy", "__array__") and not kwargs.get("force"):
        raise TypeError(f"{shapes}; an array cannot be of what is on the GPU")
    movement = name in ("to", "cpu", "cuda")
    if there and any(tensor.dim() for tensor in here) and name not in MIXED and not movement:
        raise RuntimeError(f"{shapes}; all must be on one device")
    if name == "__getitem__" and there and not is_there(args[0]):
        raise RuntimeError(f"{shapes}; indices of what is on the host must be there, too")
    on_gpu = bool(there) if target is None else target.type == "cuda"
    for generator in (leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Generator)):
        if generator.there != on_gpu:
            raise RuntimeError(f"{name}: draws on {'the GPU' if on_gpu else 'the host'} from a generator of the other")
        if Graph.captured is not None and generator not in Graph.captured.generators:
            raise RuntimeError(f"{name}: draws from a generator that the graph which is captured does not know")
    if Graph.captured is None:
        return
    if there and (name in TO_HOST or (movement and not on_gpu)):
        raise RuntimeError(f"{shapes}; it waits for the GPU while a graph is captured")
    if name == "__getitem__" and any(tensor.dtype == torch.bool for tensor in there[1:]):
        raise RuntimeError(f"{shapes}; its shape depends on values while a graph is captured")
    if here and (there or (movement and on_gpu)):
        raise RuntimeError(f"{shapes}; it copies from the host while a graph is captured")


class Recorder(TorchDispatchMode):
    """Lists all that is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Callable, tuple, dict, Any]] = []

    def __torch_dispatch__(self, func: Callable, types: object, args: tuple = (), kwargs: dict | None = None) -> Any:
        with torch._C.DisableTorchFunction():
            result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, result))
        return result


class Graph:
    """A CUDA graph: what it has recorded, and the tensors that all replays write to."""

    captured: "Graph | None" = None
    """The one that is captured now."""

    def __init__(self) -> None:
        self._recorder, self.generators = Recorder(), []
        self._computed = False

    def register_generator_state(self, generator: Generator) -> None:
        """Let replays move on `generator`."""
        assert generator.there
        self.generators.append(generator)

    def capture_begin(self, capture_error_mode: str) -> None:
        """Record all from here."""
        assert Graph.captured is None
        Graph.captured = self
        self._recorder.__enter__()

    def capture_end(self) -> None:
        """Record no more. Recording has computed the first result, as CUDA's has not: the first replay has it ready."""
        self._recorder.__exit__(None, None, None)
        Graph.captured, self._computed = None, True

    @torch.no_grad()
    def replay(self) -> None:
        """Compute everything once more, into the tensors that hold what was computed before."""
        if self._computed:
            self._computed = False
            return
        with torch._C.DisableTorchFunction():
            for func, args, kwargs, result in self._recorder.calls:
                again = func(*args, **kwargs)
                for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.data.copy_(new)


class Passive:
    """A stream or an event: work is done at once, in the order of the host."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None


@contextmanager
def pretended_gpu() -> Iterator[torch.device]:
    """Let torch have one GPU of 80 GB inside the block."""
    import torch._dynamo  # makes a table of what torch has, before that changes

    class Autocast(torch.autocast):
        def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
            super().__init__("cpu" if device_type == "cuda" else device_type, *args, **kwargs)

    new_parameter = torch.nn.Parameter.__new__

    def parameter(cls: type, data: Tensor | None = None, requires_grad: bool = True) -> Tensor:
        made = new_parameter(cls, data, requires_grad)
        return made if data is None else put(made, is_there(data))

    run_thread = threading.Thread.run

    def run(thread: threading.Thread) -> None:
        with Placement():  # modes are of one thread; a class with a `run` of its own goes without
            run_thread(thread)

    @contextmanager
    def stream(stream: object) -> Iterator[None]:
        yield

    there = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_name": lambda device=None: NAME,
        "get_device_properties": lambda device=None: SimpleNamespace(total_memory=80 << 30),
        "is_current_stream_capturing": lambda: Graph.captured is not None,
        "current_stream": lambda device=None: Passive(),
        "max_memory_allocated": lambda device=None: 1 << 30,
        "synchronize": lambda device=None: None,
        "empty_cache": lambda: None,
        "set_per_process_memory_fraction": lambda fraction, device=None: None,
        "_sleep": lambda cycles: None,
        "stream": stream, "Stream": Passive, "Event": Passive, "CUDAGraph": Graph,
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch, Placement():
        for name, value in there.items():
            patch.setattr(torch.cuda, name, value)
        patch.setattr(torch, "Generator", Generator)
        patch.setattr(torch, "autocast", Autocast)
        patch.setattr(torch.nn.Parameter, "__new__", parameter)
        patch.setattr(threading.Thread, "run", run)
        yield torch.device("cuda")

"""Read the opcodes of a pickled checkpoint before anything of it is loaded, and refuse what could take for ever.

PyTorch's safe loader runs nobody's code, but it hashes: nested tuples that hold each other twice take 2^depth steps as
keys of a dictionary, and keys of one hash take n² in all. Here a stack of kinds, not of values, is followed through
the pickle, as its machine would; every step takes constant time.
"""

import io
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MAX_TUPLE = 1000
"""Items of a tuple, those of tuples in it included."""

MAX_ARGUMENTS = 100
"""The same of a call's arguments; those of a tensor with 8 dimensions are 24."""

MAX_RARE_CALLS = 100
"""Of functions other than those that make tensors and ordered dictionaries: each may copy as much as the file holds."""

_TENSORS = {f"torch._utils {name}" for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter")}
_SCALAR, _OTHER, _MARK = object(), object(), object()
"""A text or a number of 8 bytes or less; anything else that is neither tuple nor container; the pickle's mark."""
_SMALL = {"NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"}
_LENGTH = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUT, _GET = {"BINPUT", "LONG_BINPUT"}, {"BINGET", "LONG_BINGET"}


class Unreasonable(Exception):
    """What a pickle asks for that no checkpoint needs."""


@dataclass(frozen=True, eq=False)
class _Tuple:
    items: tuple[Any, ...]
    weight: int


@dataclass(eq=False)
class _Container:
    is_list: bool
    plain: bool = True
    """Only scalars were put in so far."""


@dataclass(frozen=True, eq=False)
class _Global:
    name: str
    """Module, a space, name."""


def refuse_unreasonable(data: bytes, n_pickles: int = 1) -> None:
    """Follow the first `n_pickles` pickles in `data`, or as many as it has.

    Raises:
        Unreasonable: one could take time or memory out of all proportion to its size.
        ValueError, KeyError, IndexError, UnicodeDecodeError: the pickle is damaged.
    """
    file = io.BytesIO(data)
    for _ in range(n_pickles):
        if file.tell() == len(data):
            return
        machine = _Machine()
        for opcode, argument, _position in pickletools.genops(file):
            machine.step(opcode.name, argument)


class _Machine:
    """The stack and the memo of a pickle, of kinds."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._n_rare = 0
        self._special: dict[str, Callable[[], None]] = {
            "MARK": lambda: self._stack.append(_MARK),
            "TUPLE": lambda: self._make_tuple(self._pop_mark()),
            "EMPTY_LIST": lambda: self._stack.append(_Container(is_list=True)),
            "EMPTY_SET": lambda: self._stack.append(_Container(is_list=True)),
            "EMPTY_DICT": lambda: self._stack.append(_Container(is_list=False)),
            "APPEND": lambda: self._put_in([self._stack.pop()]),
            "APPENDS": lambda: self._put_in(self._pop_mark()),
            "SETITEM": lambda: self._set_items([self._stack.pop(-2), self._stack.pop()]),
            "SETITEMS": lambda: self._set_items(self._pop_mark()),
            "BINPERSID": self._load_storage,
            "REDUCE": self._call,
            "NEWOBJ": self._call,
            "BUILD": self._build,
            "PROTO": lambda: None,
            "STOP": lambda: None,
        }

    def step(self, name: str, argument: Any) -> None:
        """Do what one opcode does."""
        if name in self._special:
            self._special[name]()
        elif name in _LENGTH:
            start = len(self._stack) - _LENGTH[name]
            items, self._stack[start:] = self._stack[start:], []
            self._make_tuple(items)
        elif name in _SMALL:
            self._stack.append(_SCALAR)
        elif name == "LONG1":
            self._stack.append(_SCALAR if abs(argument) < 2**63 else _OTHER)
        elif name == "GLOBAL":
            self._stack.append(_Global(argument))
        elif name in _PUT:
            self._memo[argument] = self._stack[-1]
        elif name in _GET:
            self._stack.append(self._memo[argument])
        else:
            raise ValueError(f"opcode {name}")

    def _pop_mark(self) -> list[Any]:
        items = []
        while (item := self._stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def _make_tuple(self, items: list[Any]) -> None:
        weight = sum(item.weight + 1 if isinstance(item, _Tuple) else 1 for item in items)
        if weight > MAX_TUPLE:
            raise Unreasonable(f"a tuple of more than {MAX_TUPLE:,} items, those of tuples in it included")
        self._stack.append(_Tuple(tuple(items), weight))

    def _put_in(self, items: list[Any]) -> None:
        container = self._stack[-1]
        if isinstance(container, _Container) and any(item is not _SCALAR for item in items):
            container.plain = False

    def _set_items(self, items: list[Any]) -> None:
        if any(key is not _SCALAR for key in items[::2]):
            raise Unreasonable("a key of a dictionary that is neither a text nor a number of 8 bytes or less")

    def _load_storage(self) -> None:
        named = self._stack.pop()
        if isinstance(named, _Tuple) and not all(item is _SCALAR or isinstance(item, _Global) for item in named.items):
            raise Unreasonable("a tensor's storage that is named by more than texts and numbers")
        self._stack.append(_OTHER)

    def _call(self) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        name = function.name if isinstance(function, _Global) else ""
        empty = isinstance(arguments, _Tuple) and not arguments.items
        if not empty and name not in _TENSORS:
            self._n_rare += 1
            if self._n_rare > MAX_RARE_CALLS or name == "builtins bytearray":
                raise Unreasonable(f"more than {MAX_RARE_CALLS} calls of functions, or memory, that no tensor needs")
        _refuse_hidden(arguments)
        self._stack.append(_OTHER)

    def _build(self) -> None:
        _refuse_hidden(self._stack.pop())


def _refuse_hidden(arguments: Any) -> None:
    """Refuse what a function might hash or unfold: lists of more than texts and numbers, on any level."""
    if isinstance(arguments, _Tuple):
        if arguments.weight > MAX_ARGUMENTS:
            raise Unreasonable(f"a call with more than {MAX_ARGUMENTS} arguments")
        for item in arguments.items:
            _refuse_hidden(item)
    elif isinstance(arguments, _Container) and arguments.is_list and not arguments.plain:
        raise Unreasonable("a call with a list of more than texts and numbers")

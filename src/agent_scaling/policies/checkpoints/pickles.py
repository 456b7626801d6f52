"""Finds the calls and allocations of a checkpoint's pickle, without making them.

torch's weights-only reader runs no foreign code, but it calls what it allows with any arguments:
``bytearray(10**9)``, a storage without data, a tensor that is larger than its storage. Opcodes are
followed here on stand-ins, and only calls whose results fit into the file's own bytes pass.

A pickle may also reach one value by many ways. Forty pairs, each of the one before twice, are 200
bytes; to hash, print or walk them takes 2^40 steps. So what is reached is counted, each time anew.
"""

from __future__ import annotations

import pickletools
import re
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

MAGIC = b"PK\x03\x04"
"""First bytes of torch's format since 1.6; torch's reader of the older format trusts its sizes."""
PICKLE = "data.pkl"
REBUILD = "torch._utils._rebuild_tensor_v2"
PARAMETERS = {"torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"}
CALLABLE = {"collections.OrderedDict", "collections.Counter", "torch.Size", "torch.device",
            "builtins.set", "torch.serialization._get_layout"}  # fmt: skip
"""Further allowed callables; their results are as large as their arguments in the file."""
SCALARS = {"numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"}
"""Allowed for other programs' checkpoints alone, with a dtype that :data:`DTYPE` matches."""
NUMBERS = "numpy.dtype"
DTYPE = re.compile(r"[<>|=]?[biufc]\d{1,2}|\?")
OWN = ("torch.", "builtins.", "_codecs.", "numpy.dtype")
"""Beginnings of names that torch's reader or ours knows; :mod:`.foreign` reads others as inert."""

DEEPEST = 100
"""Most tuples, lists and dicts in one another; a run's checkpoint has 10."""
AGAIN, SPARE = 8, 100_000
"""Values that may be reached or copied for each byte of a pickle, or for each value that there is
(:func:`refuse_sharing`), and beside those."""
LETTERS = 8
"""Letters of a text that count as one value."""

ELEMENTS = {"Untyped": 1, "Bool": 1, "Byte": 1, "Char": 1, "Short": 2, "Half": 2, "BFloat16": 2,
            "Int": 4, "Float": 4, "Long": 8, "Double": 8, "ComplexFloat": 8,
            "ComplexDouble": 16}  # fmt: skip
"""Bytes of an element by the storage's class."""


class Named(NamedTuple):
    """A global that a pickle names, by its import path."""

    path: str


def named(text: str) -> Named:
    """Return a global from ``module name``, with Python 2's names replaced as the reader does."""
    module, _, name = text.partition(" ")
    module, name = NAME_MAPPING.get((module, name), (module, name))
    return Named(f"{IMPORT_MAPPING.get(module, module)}.{name}")


class Stored(NamedTuple):
    """A storage, with its number of elements."""

    elements: int


class Other:
    """Stands in for any value whose type does not matter."""


class Held:
    """Stands in for a list, a dict or a set."""

    def __init__(self, size: int = 0) -> None:
        self.size = size
        """Values in it, those of tuples counted."""
        self.inner = 0
        """Lists, dicts and sets directly in it; they may grow later."""

    def add(self, items: Sequence[Any]) -> None:
        """Count items that are put into it."""
        self.size += sum(map(size_of, items))
        self.inner += sum(isinstance(item, Held) for item in items)


class Items(tuple[Any, ...]):
    """A tuple that knows how many values it holds, those of tuples in it counted."""

    size: int = 1
    depth: int = 1

    def __new__(cls, items: Iterable[Any]) -> Self:
        """Make a tuple and count its values."""
        made = super().__new__(cls, items)
        made.size = 1 + sum(map(size_of, made))
        made.depth = 1 + max((item.depth for item in made if isinstance(item, Items)), default=0)
        return made


def size_of(item: object) -> int:
    """Return the values that a stand-in counts for: those of a tuple, the letters of a text."""
    if isinstance(item, Items):
        return item.size
    return 1 + len(item) // LETTERS if isinstance(item, str) else 1


OTHER, TENSOR, KIND, MARK = Other(), Other(), Other(), Other()
CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "MARK": MARK,
                             "EMPTY_TUPLE": Items(())}  # fmt: skip
HOLDERS = {"EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"}
VALUES = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"}


def refuse_pickle_bomb(file: str | Path | BinaryIO, foreign: bool = False) -> None:
    """Raise ValueError for a checkpoint that would take more memory than it has bytes.

    Args:
        file: A path, or a file at its beginning.
        foreign: True for another program's, in which unknown classes become inert.
    """
    if isinstance(file, str | Path):
        with Path(file).open("rb") as opened:
            refuse_pickle_bomb(opened, foreign)
        return
    if file.read(len(MAGIC)) != MAGIC:
        raise ValueError("it is not in the format that torch writes since version 1.6")
    with zipfile.ZipFile(file) as members:
        infos = members.infolist()
        sizes = {info.filename.rpartition("/")[2]: info.file_size for info in infos}
        pickles = [members.read(info) for info in infos if info.filename.endswith(PICKLE)]
    for data in pickles:
        Machine(sizes, foreign).follow(data)


class Machine:
    """The stack and memo of an unpickler, on stand-ins.

    Args:
        sizes: Bytes of each member of the file by its last name, storages included.
        foreign: See :func:`refuse_pickle_bomb`.
    """

    def __init__(self, sizes: Mapping[str, int], foreign: bool) -> None:
        self.sizes, self.foreign = sizes, foreign
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.left = SPARE
        self.widest = 1  # the size of the largest tuple
        self.steps: dict[str, Callable[[Any], object]] = {
            "GLOBAL": lambda arg: self.stack.append(named(arg)),
            "BINPERSID": lambda _: self.stack.append(self._storage(self.stack.pop())),
            "REDUCE": lambda _: self._call(self.stack.pop()),
            "NEWOBJ": lambda _: self._call(self.stack.pop()),
            "BUILD": lambda _: self._build(self.stack.pop()),
            "TUPLE": lambda _: self._tuple(self._marked()),
            "APPEND": lambda _: self._hold(self._drop(1)),
            "SETITEM": lambda _: self._hold(self._drop(2)),
            "APPENDS": lambda _: self._hold(self._marked()),
            "SETITEMS": lambda _: self._hold(self._marked()),
            "PROTO": lambda _: None,
            "STOP": lambda _: None,
        }

    def follow(self, data: bytes) -> None:
        """Follow a pickle; raise ValueError for a call that is not allowed."""
        self.left += AGAIN * len(data)
        steps: Iterator[tuple[Any, Any, Any]] = pickletools.genops(data)
        for opcode, arg, _ in steps:
            name: str = opcode.name
            if name in CONSTANTS:
                self.stack.append(CONSTANTS[name])
            elif name in HOLDERS:
                self.stack.append(Held())
            elif name in VALUES:
                self.stack.append(arg)
            elif name in ("BINPUT", "LONG_BINPUT"):
                self.memo[arg] = self.stack[-1]
            elif name in ("BINGET", "LONG_BINGET"):
                self._spend(size_of(self.memo[arg]))
                self.stack.append(self.memo[arg])
            elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
                self._tuple(self._drop(int(name[-1])))
            elif name in self.steps:
                self.steps[name](arg)
            else:
                raise ValueError(f"its pickle has the opcode {name}, which torch does not write")

    def _drop(self, count: int) -> list[Any]:
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def _tuple(self, items: list[Any]) -> None:
        made = Items(items)
        self._spend(made.size)
        if made.depth > DEEPEST:
            raise ValueError(f"it holds more than {DEEPEST} tuples in one another")
        self.widest = max(self.widest, made.size)
        self.stack.append(made)

    def _hold(self, items: list[Any]) -> None:
        """Put items into the list, dict or set on the stack."""
        if isinstance(holder := self.stack[-1], Held):
            holder.add(items)

    def _spend(self, values: int) -> None:
        self.left -= values
        if self.left < 0:
            raise ValueError("it reaches its values far more often than it has bytes")

    def _marked(self) -> list[Any]:
        items: list[Any] = []
        while (item := self.stack.pop()) is not MARK:
            items.append(item)
        return items[::-1]

    def _storage(self, about: Any) -> Stored:
        """Check ``("storage", type, member, device, elements)`` against the member's size."""
        kind, dtype, member, _, elements = about
        if (
            kind != "storage"
            or not isinstance(dtype, Named)
            or not isinstance(member, str)
            or not isinstance(elements, int)
        ):
            raise ValueError("it holds something that is no storage")
        if not 0 <= elements * element_bytes(dtype.path) <= self.sizes.get(member, -1):
            raise ValueError(f"its storage {member} says that it has {elements} elements")
        return Stored(elements)

    def _call(self, args: Any) -> None:
        called = self.stack.pop()
        path = called.path if isinstance(called, Named) else ""
        if path == REBUILD:
            check_tensor(*args[:4])
        elif path not in PARAMETERS and not self._is_small(path, args):
            raise ValueError(f"it calls {path or 'something unnamed'}, which may take any memory")
        if path == REBUILD or path in PARAMETERS:
            self.stack.append(TENSOR)
        else:
            self.stack.append(KIND if path == NUMBERS else Held(self._copied(args)))

    def _copied(self, args: Any) -> int:
        """Count what a call reads of its arguments, and return it; the result may hold as much."""
        items = args if isinstance(args, Items) else (args,)
        size = sum(
            item.size + item.inner * self.widest if isinstance(item, Held) else size_of(item)
            for item in items
        )
        self._spend(size)
        return size

    def _is_small(self, path: str, args: Any) -> bool:
        """Return True for a call whose result is of the size of its arguments."""
        if path in CALLABLE:
            return True
        if path == "_codecs.encode":
            return bool(args[1:] == ("latin1",))
        if not self.foreign:
            return False
        if path == NUMBERS:
            return DTYPE.fullmatch(args[0]) is not None
        return path in SCALARS or bool(path and not path.startswith(OWN))

    def _build(self, state: Any) -> None:
        if self.stack[-1] is TENSOR:
            raise ValueError("it gives a tensor another storage")
        if self.stack[-1] is KIND and any(part is not None for part in state[2:5]):
            raise ValueError("it makes a type of its own")


def refuse_sharing(value: object) -> None:
    """Raise ValueError for values whose walk would not end, or would take far more steps than them.

    Args:
        value: What a checkpoint holds.
    """
    counted: dict[int, int] = {}

    def count(value: object, depth: int) -> int:
        if not isinstance(value, dict | list | tuple | set):
            return 1
        if depth > DEEPEST:
            raise ValueError(f"its values lie more than {DEEPEST} deep in one another")
        if id(value) not in counted:
            inner = [*value, *value.values()] if isinstance(value, dict) else list(value)
            counted[id(value)] = 1 + sum(count(item, depth + 1) for item in inner)
            distinct[0] += 1 + len(inner)
        return counted[id(value)]

    distinct = [0]
    if count(value, 0) > SPARE + AGAIN * distinct[0]:
        raise ValueError("it reaches its values far more often than it has them")


def element_bytes(path: str) -> int:
    """Return the bytes of an element of ``torch.FloatStorage`` and the like; raises ValueError."""
    kind = path.removeprefix("torch.").removesuffix("Storage")
    if path != f"torch.{kind}Storage" or kind not in ELEMENTS:
        raise ValueError(f"it holds a storage of {path}")
    return ELEMENTS[kind]


def check_tensor(storage: Any, offset: Any, size: Any, stride: Any) -> None:
    """Raise ValueError for a tensor that is larger than its storage, or reaches beyond it."""
    numbers = (offset, *size, *stride)
    if not isinstance(storage, Stored) or not all(
        type(number) is int and number >= 0 for number in numbers
    ):
        raise ValueError("it holds something that is no tensor")
    elements, last = 1, offset
    for count, step in zip(size, stride, strict=True):
        elements *= count
        last += (count - 1) * step
    if elements and (last >= storage.elements or elements > storage.elements):
        raise ValueError(f"it holds a tensor of shape {size} in {storage.elements} elements")

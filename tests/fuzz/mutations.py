"""Generators of inputs that know a format, for what no random bytes get through."""

from __future__ import annotations

import json
import pickletools
from collections.abc import Callable
from random import Random
from typing import Any

NUMBERS = [-1, 0, 1, 2, 255, 256, 65536, 65537, 2**31, 2**48, 2**63, 10**30, 0.5, -0.0, 1e308]
TEXTS = ["", "a", "a\n", "../../etc/passwd", "/etc/passwd", "|O8", "|u1", "\0", "é", "\ud800"]
CELLS = ["", "0", "-1", "nan", "inf", "-inf", "1e308", "1.797e308", "1e-320", "x", '"', "1e3",
         "1e12", "3e12", "1e13", "None", "True", "9" * 400]  # fmt: skip
HEADINGS = ["run", "run_id", "seed", "params", "flops", "milestone", "budget", "samples", "frames",
            "tokens", "loss", "eval_loss", "value", "return", "return_mean", "return_se", "game",
            "loss_se", "expert_return", "rollouts", "status", "mlflow_run_id", "experiment",
            "partial", "weight", "log_loss", "runs"]  # fmt: skip
GLOBALS = [b"builtins bytearray", b"torch FloatStorage", b"torch._utils _rebuild_tensor_v2",
           b"collections OrderedDict", b"torch Size", b"_codecs encode", b"os system",
           b"numpy.core.multiarray scalar", b"numpy dtype", b"torch.serialization _get_layout",
           b"torch._utils _rebuild_parameter", b"torch device", b"builtins set"]  # fmt: skip

Change = Callable[[bytes, Random], bytes]


def mutate_bytes(data: bytes, rng: Random) -> bytes:
    """Return the bytes with a part cut out, overwritten or repeated."""
    begin = rng.randint(0, len(data))
    end = min(len(data), begin + rng.randint(0, 40))
    middle = [b"", rng.randbytes(rng.randint(0, 12)), data[begin:end] * 2]
    return data[:begin] + rng.choice(middle) + data[end:]


def mutate_json(data: bytes, rng: Random) -> bytes:
    """Return JSON with up to three of its parts replaced, removed, or put elsewhere."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return mutate_bytes(data, rng)
    for _ in range(rng.randint(1, 3)):
        found = places(value)[1:]
        if not found:
            break
        way = rng.choice(found)
        _change_part(inside(value, way[:-1]), way[-1], inside(value, rng.choice(found)), rng)
    return json.dumps(value).encode("utf-8", "surrogatepass")


def _change_part(parent: Any, key: Any, other: Any, rng: Random) -> None:
    """Change a part of a JSON value; ``other`` is another part."""
    match rng.randrange(4):
        case 0:
            del parent[key]
        case 1:
            parent[key] = json.loads(json.dumps(other))
        case 2 if isinstance(parent, list):
            parent.insert(key, json.loads(json.dumps(parent[key])))
        case 2:
            parent[rng.choice(TEXTS)] = parent[key]
        case _ if type(parent[key]) in (int, float):
            near = [parent[key] + 1, parent[key] - 1, -parent[key], *NUMBERS]
            parent[key] = rng.choice(near)
        case _:
            parent[key] = rng.choice([*NUMBERS, *TEXTS, None, True, [], {}, [[]], {"": {}}])


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths to everything in a JSON value."""
    items = list(value.items()) if isinstance(value, dict) else []
    items += enumerate(value) if isinstance(value, list) else []
    return [at, *(place for key, inner in items for place in places(inner, (*at, key)))]


def inside(value: Any, way: tuple[Any, ...]) -> Any:
    """Return the part of a JSON value at a path."""
    for key in way:
        value = value[key]
    return value


def mutate_csv(data: bytes, rng: Random) -> bytes:
    """Return a table with cells, headings, rows or columns changed."""
    rows = [line.split(",") for line in data.decode("latin-1").split("\n")]
    for _ in range(rng.randint(1, 4)):
        row = rng.choice(rows)
        match rng.randrange(6):
            case 0:
                rows[0][rng.randrange(len(rows[0]))] = rng.choice(HEADINGS)
            case 1:
                rows.insert(rng.randrange(len(rows) + 1), list(row))
            case 2 if len(rows) > 1:
                rows.remove(row)
            case 3:
                for line in rows[1:]:
                    line.append(rng.choice(CELLS))
                rows[0].append(rng.choice(HEADINGS))
            case _:
                row[rng.randrange(len(row))] = rng.choice(CELLS)
    return "\n".join(",".join(row) for row in rows).encode("latin-1")


def mutate_pickle(data: bytes, rng: Random) -> bytes:
    """Return a pickle with opcodes removed, repeated, moved, or naming something else."""
    try:
        starts = [at for _, _, at in pickletools.genops(data) if at is not None]
    except Exception:  # pickletools raises any at bytes that are no pickle
        return mutate_bytes(data, rng)
    ends = [*starts[1:], len(data)]
    parts = [data[a:b] for a, b in zip(starts, ends, strict=True)]
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(parts))
        match rng.randrange(7):
            case 0 if len(parts) > 1:
                del parts[at]
            case 1:
                parts.insert(at, rng.choice(parts))
            case 5:  # pairs, each of the one before twice
                parts.insert(at, b"q\xff" + b"h\xffh\xff\x86q\xff" * rng.choice([1, 2, 50]))
            case 2:
                parts[at] = rng.choice(parts)
            case 3:
                module, _, name = rng.choice(GLOBALS).partition(b" ")
                parts.insert(at, b"c" + module + b"\n" + name + b"\n")
            case 4:
                number = rng.choice([0, 1, 2**30, 2**31 - 1]).to_bytes(4, "little")
                parts.insert(at, b"J" + number)
            case _:
                parts[at] = mutate_bytes(parts[at], rng)
    return b"".join(parts)


def mutate_lines(words: list[bytes]) -> Change:
    """Return a generator for lines of fields: words of the format are put in at random."""

    def change(data: bytes, rng: Random) -> bytes:
        if rng.random() < 0.3:
            return mutate_bytes(data, rng)
        begin = rng.randint(0, len(data))
        end = min(len(data), begin + rng.choice([0, 0, 1, 8]))
        return data[:begin] + rng.choice(words) + data[end:]

    return change

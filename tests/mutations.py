"""Files as somebody may have changed them: by accident, or to do harm. What is changed is drawn from a `Random`."""

import copy
import json
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors.torch import load_file, save_file

ODD_VALUES = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    7,
    255,
    2**31,
    2**63,
    10**19,
    -(10**18),
    0.0,
    -0.5,
    1e-300,
    1e300,
    1.5,
    "",
    "x",
    "1",
    "nan",
    "a\nb",
    "\x1b[31m",
    "\ud800",
    "../..",
    "/etc/passwd",
    "http://x",
    "x" * 3000,
    [],
    {},
    [[]],
    [None],
    [0.5] * 3,
    ["a"] * 50,
    {"a": 1},
    {"kind": "blend"},
    [1, "a", None],
]
# What no writer of JSON writes.
ODD_TEXTS = ["NaN", "Infinity", "-Infinity", "1e999", "9" * 400, "[" * 3000, '{"a":' * 3000, "{", ""]
TYPES = [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool, torch.int32]


def places(content: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Of all that is in a JSON value: keys and indices that lead there."""
    inside = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [before, *(place for key, value in inside for place in places(value, (*before, key)))]


def change_value(random: Random, content: Any) -> Any:
    """A JSON value with something in it replaced, removed, added, or moved to another place."""
    changed = copy.deepcopy(content)
    *way, last = random.choice(places(changed)[1:] or [(None,)])
    if last is None:
        return random.choice(ODD_VALUES)
    parent = changed
    for key in way:
        parent = parent[key]
    kind = random.randrange(6)
    if kind < 3:
        parent[last] = random.choice(ODD_VALUES)
    elif kind == 3:
        del parent[last]
    elif kind == 4:
        source = content
        for key in random.choice(places(content)):
            source = source[key]
        parent[last] = copy.deepcopy(source)
    elif isinstance(parent, dict):
        parent[random.choice(["", "x", "name", "kind", "transformers_weights", "auto_map"])] = random.choice(ODD_VALUES)
    else:
        parent.append(copy.deepcopy(parent[last]))
    return changed


def change_json(random: Random, text: str) -> str:
    """A JSON text with one to three changes; or with what is no JSON in it."""
    content = json.loads(text)
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        content = change_value(random, content)
    if random.random() < 0.15:
        content = change_value(random, content)
        marked = json.dumps(content)
        place = random.randrange(len(marked) + 1)
        return marked[:place] + random.choice(ODD_TEXTS) + marked[place:]
    return json.dumps(content, ensure_ascii=random.random() < 0.9).encode("utf-8", "backslashreplace").decode()


def change_bytes(random: Random, content: bytes) -> bytes:
    """Bytes flipped, cut, repeated, inserted or replaced."""
    made = bytearray(content)
    for _ in range(random.choice([1, 1, 2, 8])):
        place = random.randrange(len(made) + 1)
        kind = random.randrange(6)
        if kind == 0:
            del made[place:]
        elif kind == 1:
            made[place:place] = bytes(random.randrange(256) for _ in range(random.choice([1, 4, 30])))
        elif kind == 2:
            made[place : place + random.choice([1, 2, 8, 100])] = b""
        elif kind == 3 and made:
            start = random.randrange(len(made))
            made[place:place] = made[start : start + random.choice([8, 200])]
        elif made:
            made[min(place, len(made) - 1)] = random.choice([0, 1, 127, 128, 255, random.randrange(256)])
    return bytes(made)


def change_tensors(random: Random, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors of which one has another shape, type or content, another name, or is not there."""
    made = dict(tensors)
    name = random.choice(sorted(made))
    value = made[name]
    kind = random.randrange(8)
    if kind == 0:
        del made[name]
    elif kind == 1:
        made[random.choice(["foreign", "bias", "weights", "anchors", "base_model.x", "blend.text.weights"])] = (
            value.clone()
        )
    elif kind == 2:
        made[name] = value.to(random.choice(TYPES))
    elif kind in (3, 4) and value.numel():
        odd = random.choice([float("nan"), float("inf"), float("-inf"), 1e38, -1.0, 0.0, 1e6])
        changed = value.clone().flatten()
        rows = slice(None) if random.random() < 0.3 else random.randrange(len(changed))
        changed[rows] = (
            torch.tensor(odd).to(value.dtype) if value.is_floating_point() else random.choice([-1, 5, 255, 0])
        )
        made[name] = changed.view(value.shape)
    else:
        shapes: list[Callable[[], torch.Tensor]] = [
            value.flatten,
            lambda: value[None],
            lambda: value.new_zeros(()),
            lambda: value.new_zeros(0),
            lambda: value.new_zeros((0, 3)),
            lambda: torch.cat([value, value]),
            lambda: value[:1],
            lambda: value[..., :-1],
            lambda: value.mT,
            lambda: value.new_zeros((1,) * 5),
            lambda: value[1:],
            lambda: torch.cat([value, value], -1),
        ]
        try:
            made[name] = random.choice(shapes)().contiguous()
        except (IndexError, RuntimeError):
            made[name] = value.new_zeros((2, 2))
    return {key: value.clone() for key, value in made.items()}


def change_tensor_file(random: Random, path: Path) -> None:
    """A safetensors file with other tensors, with another description of them, or with other bytes."""
    kind = random.random()
    if kind < 0.7:
        save_file(change_tensors(random, load_file(path)), path)
        return
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    if kind < 0.85:
        header = change_json(random, content[8 : 8 + length].decode()).encode("utf-8", "surrogatepass")
        path.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + length :])
    else:
        path.write_bytes(change_bytes(random, content))


def change_adapter(random: Random, folder: Path) -> None:
    """An adapter of which one or two files were changed, by somebody who renews checksums."""
    files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors"))
    for path in random.sample(files, random.choice([1, 1, 1, 2])):
        if path.suffix == ".safetensors":
            change_tensor_file(random, path)
        elif random.random() < 0.9:
            path.write_text(change_json(random, path.read_text("utf-8")), "utf-8", "surrogatepass")
        else:
            path.write_bytes(change_bytes(random, path.read_bytes()))
    renew_checksums(folder)


def renew_checksums(folder: Path) -> None:
    """Of an adapter, as far as its record can be read."""
    try:
        record = json.loads((folder / "atha.json").read_bytes())
        for name in record["sha256"]:
            record["sha256"][name] = sha256((folder / name).read_bytes()).hexdigest()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return
    (folder / "atha.json").write_text(json.dumps(record), "utf-8", "backslashreplace")


def change_text(random: Random, text: str) -> bytes:
    """A text with odd lines, odd values and odd bytes in it."""
    lines = text.splitlines()
    for _ in range(random.choice([1, 2, 4])):
        place = random.randrange(len(lines) + 1)
        value = random.choice(
            ['"', ",", ",,,", "\t", ";", "'", "\0", "\ufeff", "\u2028", "=1+1", "#", "../../x", " ", "]]"]
        )
        kind = random.randrange(5)
        if kind == 0:
            lines.insert(place, value)
        elif kind == 1 and lines:
            line = lines[place % len(lines)]
            cut = random.randrange(len(line) + 1)
            lines[place % len(lines)] = line[:cut] + value + line[cut:]
        elif kind == 2 and lines:
            del lines[place % len(lines)]
        elif kind == 3 and lines:
            lines[place % len(lines)] = value.join([lines[place % len(lines)]] * random.choice([2, 300]))
        elif lines:
            lines.insert(place, lines[place % len(lines)])
    made = (
        random.choice(["\n", "\n", "\r\n", "\r"])
        .join(lines)
        .encode(random.choice(["utf-8"] * 5 + ["utf-16", "utf-32"]))
    )
    return change_bytes(random, made) if random.random() < 0.3 else made


def change_model(random: Random, folder: Path) -> None:
    """A model folder of which one or two files were changed."""
    files = sorted(path for path in folder.iterdir() if path.suffix != ".safetensors")
    for path in random.sample(files, random.choice([1, 1, 1, 2])):
        if path.suffix == ".json" and random.random() < 0.92:
            path.write_text(change_json(random, path.read_text("utf-8")), "utf-8", "surrogatepass")
        else:
            path.write_bytes(change_bytes(random, path.read_bytes()))
    if random.random() < 0.15:
        change_tensor_file(random, folder / "model.safetensors")


def change_store(random: Random, path: Path) -> None:
    """A store of which bytes were changed, or values by somebody who knows its tables."""
    if random.random() < 0.5:
        content = path.read_bytes()
        start = random.choice([0, 0, 4096 * random.randrange(len(content) // 4096)])
        part = change_bytes(random, content[start : start + 4096])
        path.write_bytes(content[:start] + part + content[start + 4096 :])
        return
    connection = sqlite3.connect(path)
    tables = {
        "experiments": ["hash", "method", "model", "definition"],
        "episodes": ["content", "sequence", "episode"],
        "runs": ["started", "environment"],
        "results": [
            "hash",
            "accuracy",
            "brier",
            "calibration",
            "classes",
            "correct",
            "seconds",
            "memory",
            "run",
            "episode",
            "experiment",
        ],
        "probabilities": ["probabilities", "episode"],
    }
    with suppress(sqlite3.Error), connection:
        for _ in range(random.choice([1, 1, 3])):
            table = random.choice(list(tables))
            column = random.choice(tables[table])
            value = random.choice(
                [None, -1, 7, 1e308, float("inf"), "x", "{", "[" * 500, b"", b"\xff" * 90, 2**62, "1"]
            )
            if random.random() < 0.3:
                (old,) = connection.execute(f"SELECT {column} FROM {table} LIMIT 1").fetchone() or ("",)
                value = change_bytes(random, old if isinstance(old, bytes) else str(old).encode())
                value = value.decode("latin-1") if isinstance(old, str) else value
            rows = "" if random.random() < 0.2 else f" WHERE rowid = {random.randrange(1, 4)}"
            if table in ("episodes", "results") and rows:
                rows = f" WHERE episode = {random.randrange(4)}"
            connection.execute(f"UPDATE {table} SET {column} = ?{rows}", (value,))
    connection.close()


def change_front(random: Random, content: bytes) -> bytes:
    """Bytes of the beginning replaced, where a change does more than one of the pixels."""
    made = bytearray(content)
    for _ in range(random.choice([1, 2, 4])):
        made[int(random.random() * 0.15 * len(made))] = random.choice([0, 1, 2, 4, 16, 127, 255])
    return bytes(made)

"""Files as nobody meant them: valid ones with bytes, numbers, words and brackets changed, the same way for one seed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

NUMBERS = (
    *("0", "-1", "1e999", "-1e999", "nan", "inf", "1000000000000", "1152921504606846976", "-9223372036854775809"),
    *("1" + "0" * 400, "9" * 5000, "0x" + "f" * 5000, "1e-400", "0.1", "true", "null", '"x"', "[]", "{}", "1e15"),
)
WORDS = (
    *("", "\0", "../../outside", "/etc/passwd", "..", ".", "nan", "\u202e", "x" * 5000, "stranger:code", "os:system"),
    *("https://example.org/x.toml", "/dev/zero", "a.b.c", "<script>alert(1)</script>", "\ud800", "{run:x}", "%s"),
)
BYTES = (
    b"\0",
    b"\xff\xfe",
    b"\xc3\x28",
    b"\r",
    b"\n",
    b'"',
    b"'",
    b",",
    b"[",
    b"{",
    b"]",
    b"}",
    b"=",
    b"#",
    b"\x1b[2J",
)
_NUMBER = re.compile(rb"-?\d+(\.\d+)?([eE][-+]?\d+)?")
_WORD = re.compile(rb'"[^"\n]*"')


def mutated(data: bytes, random: Random, others: Sequence[bytes] = ()) -> bytes:
    """The content after one to four changes. others: contents that pieces are taken from."""
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        data = random.choice(_CHANGES)(data, random, others or (data,))
    return data


def mutated_tree(tree: Any, random: Random) -> Any:
    """A JSON tree after one to three changes of values, types or keys."""
    for _ in range(random.choice((1, 1, 2, 3))):
        tree = _changed(tree, random)
    return tree


def _changed(tree: Any, random: Random) -> Any:
    if isinstance(tree, dict) and tree and random.random() < 0.9:
        key = random.choice(list(tree))
        how = random.random()
        if how < 0.05:
            return {other: value for other, value in tree.items() if other != key}
        if how < 0.1:
            return {random.choice(WORDS) if other == key else other: value for other, value in tree.items()}
        return {**tree, key: _changed(tree[key], random)}
    if isinstance(tree, list) and tree and random.random() < 0.9:
        place, how = random.randrange(len(tree)), random.random()
        if how < 0.1:
            return tree[:place] + tree[place + 1 :]
        if how < 0.2:
            return [*tree, tree[place]]
        return [*tree[:place], _changed(tree[place], random), *tree[place + 1 :]]
    return random.choice(_VALUES)()


def _nested(depth: int) -> Any:
    tree: Any = []
    for _ in range(depth):
        tree = [tree]
    return tree


_VALUES: tuple[Callable[[], Any], ...] = (
    *((lambda word=word: word) for word in WORDS),
    *(
        (lambda number=number: number)
        for number in (0, -1, 1, 2, 3.5, -0.5, 1e300, 1e-300, 10**12, 1 << 60, 10**400, float("inf"), float("nan"))
    ),
    *((lambda flag=flag: flag) for flag in (True, False, None)),
    list,
    dict,
    lambda: [1, 2, 3],
    lambda: {"a": {"b": 1}},
    lambda: _nested(90),
    lambda: _nested(400),
)


def as_json(tree: Any) -> bytes:
    """The tree as JSON, with NaN, infinities and lone surrogates where it has them."""
    return json.dumps(tree).encode()


def _place(data: bytes, random: Random) -> int:
    return random.randrange(len(data) + 1)


def _part(data: bytes, random: Random, most: int = 64) -> tuple[int, int]:
    begin = _place(data, random)
    return begin, min(len(data), begin + random.randint(1, most))


def _flip(data: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    if not data:
        return data
    place = random.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << random.randrange(8)]) + data[place + 1 :]


def _any_byte(data: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    begin, end = _part(data, random, 8)
    return data[:begin] + random.randbytes(end - begin) + data[end:]


def _truncate(data: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    return data[: _place(data, random)]


def _remove(data: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    begin, end = _part(data, random)
    return data[:begin] + data[end:]


def _repeat(data: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    begin, end = _part(data, random, 400)
    return data[:end] + data[begin:end] * random.choice((1, 1, 2, 50)) + data[end:]


def _insert(data: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    place = _place(data, random)
    return data[:place] + random.choice(BYTES) * random.choice((1, 1, 3, 3000)) + data[place:]


def _splice(data: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    other = random.choice(others)
    begin, end = _part(other, random, 300)
    place = _place(data, random)
    return data[:place] + other[begin:end] + data[place:]


def _replace(pattern: re.Pattern[bytes], words: Sequence[str], quote: bool) -> Callable[..., bytes]:
    def change(data: bytes, random: Random, others: Sequence[bytes]) -> bytes:
        found = list(pattern.finditer(data))
        if not found:
            return data
        where = random.choice(found)
        word = random.choice(words)
        new = json.dumps(word) if quote else word
        return data[: where.start()] + new.encode() + data[where.end() :]

    return change


def _line(data: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    lines = data.split(b"\n")
    one, other = random.randrange(len(lines)), random.randrange(len(lines))
    lines[one], lines[other] = lines[other], random.choice((lines[one], lines[other], b""))
    return b"\n".join(lines)


def _nest(data: bytes, random: Random, others: Sequence[bytes]) -> bytes:
    depth = random.choice((50, 400, 20_000))
    deep = random.choice(
        (
            b"[" * depth + b"]" * depth,
            b'{"a":' * depth + b"1" + b"}" * depth,
            b"\n" + b"a." * depth + b"a = 1\n",
            b"{a = " * depth + b"1" + b"}" * depth,
            b"[" * depth,
        )
    )
    values = [where.span() for where in _NUMBER.finditer(data)]
    begin, end = random.choice(values) if values and random.random() < 0.7 else (_place(data, random),) * 2
    return data[:begin] + deep + data[end:]


_CHANGES: tuple[Callable[..., bytes], ...] = (
    *(_flip, _any_byte, _truncate, _remove, _repeat, _insert, _splice, _line, _nest),
    *(_replace(_NUMBER, NUMBERS, quote=False),) * 3,
    *(_replace(_WORD, WORDS, quote=True),) * 2,
)

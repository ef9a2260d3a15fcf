"""Ways to spoil a file: anywhere, or with knowledge of JSON, protobuf or tar. All from a seed."""

import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

EXTREMES = [0, 1, 2, 127, 128, 2**31 - 1, 2**31, 2**32 + 1, 2**53, 2**63 - 1, 2**63, 2**64 - 1]
SCALARS = [
    None, True, False, -1, 0, 1, 3, 0.5, -0.0, 1e-320, 1e9, -1e12, 1e308, math.inf, -math.inf,
    math.nan, 2**31, 2**63, 10**30, 10**400, "", "1", "NaN", "x" * 3_000, "\ud800", "\x1b[2J\0",
    "../../etc/passwd", "\u202eabc",
]  # fmt: skip


def of_bytes(content: bytes, rng: random.Random) -> bytes:
    """Flipped, overwritten, cut, repeated, moved or invented bytes."""
    out = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        at, to = sorted(rng.randrange(len(out) + 1) for _ in range(2))
        piece = out[at : min(to, at + 64)]
        change = rng.randrange(6)
        if change == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif change == 1:
            out[at:to] = b"" if rng.random() < 0.5 else rng.randbytes(min(to - at, 64))
        elif change == 2:
            del out[at:]
        elif change == 3:
            out[at:at] = piece * rng.choice((1, 2, 100))
        elif change == 4:
            place = rng.randrange(len(out) + 1)
            out[place : place + len(piece)] = piece
        else:
            out[at:at] = rng.choice((b"\0", b"\xff" * 10, b"[" * 2_000, rng.randbytes(20)))
        if not out:
            break
    return bytes(out)


# JSON.


def of_json(value: object, rng: random.Random) -> bytes:
    """The text of ``value`` with something in it replaced, left out, repeated or exchanged."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.choice((1, 1, 2))):
        holders = list(_holders(value))
        holder, key = rng.choice(holders)
        change = rng.randrange(8)
        if change == 0:
            del holder[key]
        elif change == 1 and isinstance(holder, list):
            holder.extend([holder[key]] * rng.choice((1, 2, 5_000)))
        elif change == 2:
            other, place = rng.choice(holders)
            holder[key], other[place] = other[place], holder[key]
            if _depth(value) > 100:  # one within the other
                holder[key] = None
        elif change == 3:
            holder[key] = rng.choice(([], {}, [[]], {"": {}}, _deep(rng), [0.0] * 3_000))
        elif change == 4 and isinstance(holder, dict):
            holder[rng.choice(("x", key.upper(), key + "\0"))] = holder.pop(key)
        else:
            holder[key] = rng.choice(SCALARS)
    text = json.dumps(value)
    if rng.random() < 0.1:  # a key twice
        text = '{"schema": 1, ' + text[1:]
    return text.encode()


def _holders(value: object) -> Iterator[tuple[object, object]]:
    """Every place in a value, those near its top as likely as all the rows further down."""
    if isinstance(value, dict | list):
        inner = list(value.items() if isinstance(value, dict) else enumerate(value))
        for key, item in inner[:40]:
            yield value, key
            yield from _holders(item)


def _deep(rng: random.Random) -> object:
    value: object = 1
    for _ in range(rng.choice((3, 30, 600))):
        value = [value] if rng.random() < 0.5 else {"a": value}
    return value


def _depth(value: object) -> int:
    level, depth = [value], 0
    while level and depth <= 1_000:
        depth += 1
        level = [
            x for v in level if isinstance(v, dict | list)
            for x in (v.values() if isinstance(v, dict) else v)
        ][:10_000]  # fmt: skip
    return depth


# Protobuf.


@dataclass
class Piece:
    """A field: a whole number, bytes, or the fields of a message."""

    number: int
    wire: int
    value: object = 0
    inner: list["Piece"] = field(default_factory=list)

    def __bytes__(self) -> bytes:
        key = varint(self.number << 3 | self.wire)
        if self.wire == 0:
            return key + varint(self.value if isinstance(self.value, int) else 0)
        content = b"".join(map(bytes, self.inner)) if self.inner else self.value
        content = content if isinstance(content, bytes) else b""
        return key + (varint(len(content)) if self.wire == 2 else b"") + content


def of_protobuf(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """A message with fields left out, repeated, renumbered, exchanged, or taken from another."""
    pieces = parse(content) or []
    for _ in range(rng.choice((1, 1, 2, 4))):
        lists = list(_lists(pieces))
        inside = rng.choice(lists)
        if not inside:
            continue
        at = rng.randrange(len(inside))
        piece = inside[at]
        change = rng.randrange(8)
        if change == 0:
            del inside[at]
        elif change == 1:
            inside[at:at] = [piece] * rng.choice((1, 1, 2, 300))
        elif change == 2:
            inside[at] = Piece(rng.randrange(1, 30), piece.wire, piece.value, piece.inner)
        elif change == 3:
            inside[at] = Piece(piece.number, rng.randrange(6), piece.value, piece.inner)
        elif change == 4:
            inside[at] = Piece(piece.number, 0, rng.choice(EXTREMES))
        elif change == 5:
            inside.insert(at, rng.choice(rng.choice(list(_lists(parse(other) or [])))))
        elif change == 6 and isinstance(piece.value, bytes):
            inside[at] = Piece(piece.number, 2, of_bytes(bytes(piece)[2:] or b"x", rng))
        else:
            place = rng.randrange(len(inside))
            inside[at], inside[place] = inside[place], inside[at]
    return b"".join(map(bytes, pieces))


def parse(content: bytes) -> list[Piece] | None:
    """The fields of a message as a tree; None where it is none. What looks like one is one."""
    pieces, at = [], 0
    while at < len(content):
        key, at = _number(content, at)
        number, wire = key >> 3, key & 7
        if not number or wire not in (0, 2, 5):
            return None
        if wire == 0:
            value, at = _number(content, at)
            pieces.append(Piece(number, wire, value))
            continue
        length = 4
        if wire == 2:
            length, at = _number(content, at)
        if at + length > len(content):
            return None
        value = content[at : at + length]
        inner = parse(value) if wire == 2 and 1 < length < 100_000 else None
        pieces.append(Piece(number, wire, value, inner or []))
        at += length
    return pieces


def _lists(pieces: list[Piece]) -> Iterator[list[Piece]]:
    yield pieces
    for piece in pieces:
        if piece.inner:
            yield from _lists(piece.inner)


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _number(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(content):
        value |= (content[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if content[at - 1] < 128:
            return value, at
    return 0, at


# Tar.

HEADER_FIELDS = [(0, 100), (100, 8), (108, 8), (116, 8), (124, 12), (136, 12), (156, 1),
                 (157, 100), (257, 6), (263, 2), (265, 32), (297, 32), (329, 8), (337, 8),
                 (345, 155), (500, 12)]  # fmt: skip
FIELD_VALUES = [b"", b"0", b"1", b"2", b"5", b"x", b"g", b"L", b"S", b"../../x", b"/etc/passwd",
                b"manifest.json", b"prior.json", b"00000000000", b"77777777777", b"00000001000",
                b"\x80" + bytes(10) + b"\x01", b"\xff" * 12, b"-1", b"0000644 ", b"ustar ",
                ]  # fmt: skip


def of_tar(content: bytes, rng: random.Random) -> bytes:
    """An archive with headers changed (checksums made right), blocks moved, left out or added."""
    blocks = [content[at : at + 512] for at in range(0, len(content), 512)]
    headers = [k for k, block in enumerate(blocks) if block[257:262] == b"ustar"]
    for _ in range(rng.choice((1, 1, 2))):
        at = rng.choice(headers) if rng.random() < 0.7 else rng.randrange(len(blocks))
        at = min(at, len(blocks) - 1)
        change = rng.randrange(5)
        if change <= 1 and len(blocks[at]) == 512:
            start, length = rng.choice(HEADER_FIELDS)
            blocks[at] = resummed(blocks[at], start, length, rng.choice(FIELD_VALUES))
        elif change == 2:
            blocks[at:at] = [rng.choice(blocks)] * rng.choice((1, 2, 20))
        elif change == 3 and len(blocks) > 1:
            del blocks[at : at + rng.choice((1, 2))]
        else:
            place = rng.randrange(len(blocks))
            blocks[at], blocks[place] = blocks[place], blocks[at]
        blocks = blocks or [b""]
    return b"".join(blocks)


def resummed(header: bytes, start: int, length: int, value: bytes) -> bytes:
    """A header with one field replaced and its checksum made right again."""
    value = value[:length].ljust(length, b"\0")
    out = bytearray(header[:start] + value + header[start + length :])
    out[148:156] = b" " * 8
    out[148:156] = b"%06o\0 " % sum(out)
    return bytes(out)

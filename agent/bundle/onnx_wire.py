"""Protobuf's wire format, read by a table of what may occur: one reading, or a refusal.

Protobuf's own readers are lenient: they skip fields they do not know, merge a message that comes
twice, take the last of two numbers, and cut a number that is too long. A file could so mean one
thing here and another to onnxruntime. What is read here is therefore only what has one meaning
(https://protobuf.dev/programming-guides/encoding): fields of the table with the type it says, no
more often than it says, and every number written in its shortest form.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NoReturn, TypeAlias, TypeVar

from agent.errors import BundleError

MAX_TEXT = 256  # bytes of a name
_VARINT, _FIXED32, _BYTES = 0, 5, 2
_NOT_ONNX = "it is cut short or not an ONNX model"


@dataclass(frozen=True, slots=True)
class MessageSchema:
    """What a message may hold.

    Attributes:
        name: as onnx.proto calls it.
        fields: by number.
        refused: what other fields are called in a refusal, by number.
    """

    name: str
    fields: Mapping[int, FieldSchema]
    refused: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FieldSchema:
    """A field: its name, what it holds ("int", "float", "text", "bytes" or a message), how often.

    A field of whole numbers that may occur more than once may also be packed.
    """

    name: str
    kind: Literal["int", "float", "text", "bytes"] | MessageSchema
    most: int = 1


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it was read: the values of its fields by name, in the order written.

    Whole numbers are as written, without a sign (-1 is 2**64 - 1).
    """

    values: Mapping[str, Sequence[FieldValue]]

    def all(self, name: str, kind: type[_Kind]) -> list[_Kind]:
        """The values of a field, which holds that kind by its schema; empty where it is absent."""
        return [value for value in self.values[name] if isinstance(value, kind)]

    def only(self, name: str, default: _Kind) -> _Kind:
        """The value of a field that occurs at most once."""
        return next(iter(self.all(name, type(default))), default)


FieldValue: TypeAlias = int | float | str | memoryview | Message
_Kind = TypeVar("_Kind", int, float, str, memoryview, Message)


def read_message(content: memoryview, schema: MessageSchema) -> Message:
    """The content of a message; messages in it are read likewise: the depth is the schema's.

    Raises:
        BundleError: it does not fit the schema, or could be read in more than one way.
    """
    found: dict[str, list[FieldValue]] = {known.name: [] for known in schema.fields.values()}
    for number, wire, value in _raw(content):
        known = schema.fields.get(number)
        if known is None:
            refuse(f"it holds {schema.refused.get(number, f'field {number} of {schema.name}')}")
        values = found[known.name]
        for one in _values(known, wire, value):
            if len(values) == known.most:
                refuse(f"one {schema.name} has more than {known.most} {known.name}")
            values.append(one)
    return Message(found)


def refuse(what: str) -> NoReturn:
    """Raise the BundleError of an encoder that is not taken."""
    raise BundleError(
        f"the bundle's encoder.onnx cannot be used: {what}",
        hint="Install the bundle again, or use the one that came with the agent.",
    )


def _values(known: FieldSchema, wire: int, value: int | memoryview) -> Iterator[FieldValue]:
    kind = known.kind
    if isinstance(value, int):
        if kind != "int":
            refuse(_NOT_ONNX)
        yield value
    elif wire == _FIXED32:
        if kind != "float":
            refuse(_NOT_ONNX)
        yield from struct.unpack("<f", value)
    elif kind == "int" and known.most > 1:
        at = 0
        while at < len(value):
            number, at = _varint(value, at)
            yield number
    elif kind in ("int", "float"):
        refuse(_NOT_ONNX)
    elif isinstance(kind, MessageSchema):
        yield read_message(value, kind)
    else:
        yield value if kind == "bytes" else _text(value)


def _text(value: memoryview) -> str:
    """A short printable name: it ends up in messages that people read."""
    if len(value) > MAX_TEXT:
        refuse(f"a name in it is longer than {MAX_TEXT} bytes")
    try:
        text = bytes(value).decode()
    except UnicodeDecodeError:
        refuse("a name in it is not text")
    if not text.isprintable():
        refuse("a name in it is not printable")
    return text


def _raw(message: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """The fields of a message: number, wire type, and a whole number or a piece of the message."""
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield number, wire, value
            continue
        if wire == _BYTES:
            length, at = _varint(message, at)
        elif wire == _FIXED32:
            length = 4
        else:
            refuse(_NOT_ONNX)
        if length > end - at:
            refuse(_NOT_ONNX)
        yield number, wire, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """A whole number in its shortest form, below 2**64, and where the next byte is."""
    value = 0
    for k, byte in enumerate(message[at : at + 10]):
        value |= (byte & 0x7F) << (7 * k)
        if byte < 0x80:
            if (byte == 0 and k) or value >= 2**64:
                break
            return value, at + k + 1
    refuse(_NOT_ONNX)

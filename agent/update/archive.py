"""A bundle as one file: an uncompressed ustar archive, the same bytes for the same bundle.

There is one way to write a bundle and only that is read: every header is compared with the one
``pack_bundle`` would have written. Nothing in the archive is interpreted but three sizes, so links,
devices, paths, extended headers, members twice, and whatever else tar can say, need no rules.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from agent.bundle.bundle import ENCODER, MANIFEST, MAX_TOTAL, PRIOR, read_bundle_file
from agent.bundle.bundle import MAX_BYTES as MAX_FILE
from agent.errors import BundleError, StateError
from agent.system.refused import sync_directory

MAX_BYTES = 5 * 2**20  # three files of MAX_TOTAL together, with their headers and padding
MEMBERS = (MANIFEST, ENCODER, PRIOR)
_BLOCK = 512
_END = bytes(2 * _BLOCK)
# Where the fields of a ustar header lie (POSIX.1, pax: "ustar Interchange Format").
_NAME, _SIZE, _KIND = slice(0, 100), slice(124, 136), slice(156, 157)
_HINT = "It is not used. Tell whoever publishes the bundles."


def pack_bundle(directory: Path) -> bytes:
    """The bundle in ``directory`` as an archive; other files in it are left out.

    Raises:
        BundleError: a file is missing, is not a regular file, or is too large.
    """
    contents = {name: read_bundle_file(directory, name) for name in MEMBERS}
    if sum(map(len, contents.values())) > MAX_TOTAL:
        raise BundleError(
            f"the bundle in {directory} holds more than {MAX_TOTAL} bytes",
            "Make a smaller encoder.",
        )
    return _packed(contents)


def unpack(content: bytes) -> dict[str, bytes]:
    """The files of an archive, by name; nothing is written anywhere.

    Raises:
        BundleError: it is not, byte for byte, what ``pack_bundle`` writes.
    """
    if len(content) > MAX_BYTES:
        _refuse(f"it is larger than {MAX_BYTES} bytes")
    contents: dict[str, bytes] = {}
    at = 0
    for name in MEMBERS:
        header = content[at : at + _BLOCK]
        size = _size_said(header, name)
        if header != _header(name, size):
            _refuse(f"the header of {name} says more than a bundle's may")
        at += _BLOCK
        contents[name] = content[at : at + size]
        at += _padded(size)
    if sum(map(len, contents.values())) > MAX_TOTAL:
        _refuse(f"its files hold more than {MAX_TOTAL} bytes")
    if len(content) < at + len(_END):
        _refuse("it is cut short")
    if content != _packed(contents):  # what lies between the files and after them
        _refuse("it holds more than the three files")
    return contents


def write_bundle(contents: Mapping[str, bytes], directory: Path) -> None:
    """Write a bundle's files into an existing, empty directory; they are on the disk on return.

    The directory's own name is not: sync its parent once it has its final name.

    Raises:
        BundleError: ``contents`` are not a bundle's files.
        StateError: they cannot be written, or something of that name is there.
    """
    if sorted(contents) != sorted(MEMBERS):
        _refuse("it does not hold the three files of a bundle")
    try:
        for name in MEMBERS:
            _write(directory / name, contents[name])
        sync_directory(directory)
    except OSError as error:
        raise StateError(
            f"the bundle cannot be written to {directory}: {error.strerror}",
            "Free some space or make the directory writable, then run the command again.",
        ) from error


def _refuse(what: str) -> NoReturn:
    raise BundleError(f"the bundle archive cannot be used: {what}", _HINT)


def _size_said(header: bytes, name: str) -> int:
    """The size in a header, after the checks whose failure has words of its own."""
    if len(header) < _BLOCK:
        _refuse("it is cut short")
    found = header[_NAME].rstrip(b"\0")
    if found != name.encode():
        _refuse(f"it holds {found.decode('ascii', 'replace')[:60]!r} where {name} belongs")
    if header[_KIND] != b"0":
        _refuse(f"its {name} is not a regular file")
    digits = header[_SIZE]
    if digits[-1:] != b"\0" or not all(digit in b"01234567" for digit in digits[:-1]):
        _refuse(f"the size of its {name} is not a number")
    size = int(digits[:-1], 8)
    if size > MAX_FILE[name]:
        _refuse(f"its {name} is larger than {MAX_FILE[name]} bytes")
    return size


def _packed(contents: Mapping[str, bytes]) -> bytes:
    parts = []
    for name in MEMBERS:
        content = contents[name]
        parts += [_header(name, len(content)), content.ljust(_padded(len(content)), b"\0")]
    return b"".join(parts) + _END


def _header(name: str, size: int) -> bytes:
    """A ustar header of a regular file: mode 0644, of nobody in particular, at the epoch."""
    before = name.encode().ljust(100, b"\0") + b"0000644\0" + 2 * b"0000000\0"
    before += b"%011o\0" % size + b"%011o\0" % 0
    after = (b"0" + bytes(100) + b"ustar\x0000").ljust(_BLOCK - len(before) - 8, b"\0")
    checksum = sum(before) + 8 * ord(" ") + sum(after)  # counted as if it were blank itself
    return before + b"%06o\0 " % checksum + after


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)

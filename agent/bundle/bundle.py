"""Encoder bundles: a directory of data (ONNX graph, numbers, JSON), checked before it is used.

    manifest.json   what it is, what it was made from, and the digest of every other file
    encoder.onnx    [n,F] features -> [n,E] embedding
    prior.json      the prior of the head's weights

Nothing is believed: sizes are capped before reading, links are not followed, names are those
known here, and every byte is covered by a digest in the manifest. Whether the manifest itself is
to be trusted is decided where bundles are fetched.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import agent
from agent.errors import BundleError
from agent.json_values import JsonObject, JsonValue, is_number

SCHEMA = 1
MANIFEST, ENCODER, PRIOR = "manifest.json", "encoder.onnx", "prior.json"
MAX_BYTES: Mapping[str, int] = {MANIFEST: 512 * 1024, ENCODER: 3 * 2**20, PRIOR: 2**20}
MAX_TOTAL = 4 * 2**20
MAX_EMBEDDING = 1_024
MAX_GOLDEN = 64
MAX_TAUGHT, MAX_WORD = 32, 40
TOLERANCE = 1e-4  # of golden embeddings, between one machine's arithmetic and another's
MAX_DEPTH = 16  # of JSON within JSON; the default bundle: 5
_LARGEST = 1e30
# Controls but tab and new line, halves of characters, and what turns the direction of writing.
_UNFIT = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\ud800-\\udfff\\u202a-\\u202e\\u2066-\\u2069]"
)
_AGAIN = "Install the bundle again, or use the one that came with the agent."
_MATCH = "Use a bundle made for this version of the agent, or update the agent."


@dataclass(frozen=True)
class Bundle:
    """A verified bundle.

    Attributes:
        path: where it was read from.
        name, version, created, licence: as its manifest says.
        embedding: E, the width of the encoder's output.
        digest: SHA-256 of the manifest, which covers every file; identifies the bundle.
        encoder: the ONNX graph.
        prior: the content of prior.json (``Prior.from_json`` checks it).
        provenance: seeds, code version, recipe, training log, evaluation.
        golden: features and embeddings, [g][F] and [g][E], for ``encoder.golden_difference``.
        taught: marks of loops (``features.vector.MARKS``) that it was taught labels of.
    """

    path: Path
    name: str
    version: str
    created: str
    licence: str
    embedding: int
    digest: str
    encoder: bytes
    prior: JsonObject
    provenance: JsonObject
    golden: tuple[list[list[float]], list[list[float]]]
    taught: frozenset[str] = frozenset()


def default_bundle() -> Path:
    """The bundle that comes with the agent, in a checkout and in an installed wheel alike."""
    return Path(agent.__file__).resolve().parent.parent / "bundles" / "default"


def load_bundle(path: Path) -> Bundle:
    """Read and verify the bundle in the directory ``path``.

    Raises:
        BundleError: it is incomplete, corrupt, hostile, or not made for this agent; the message
            names the file and what is wrong with it.
    """
    manifest_bytes = read_bundle_file(path, MANIFEST)
    manifest = _object(path, MANIFEST, manifest_bytes)
    _check_schema(path, manifest)
    contents = {name: _verified(path, name, manifest) for name in (ENCODER, PRIOR)}
    total = len(manifest_bytes) + sum(map(len, contents.values()))
    if total > MAX_TOTAL:
        _refuse(path, f"its files hold {total} bytes, more than {MAX_TOTAL}")
    from agent.bundle.onnx_rules import check_model

    check_model(contents[ENCODER])
    embedding = _whole(path, manifest, "embedding", MAX_EMBEDDING)
    return Bundle(
        path=path,
        name=_text(path, manifest, "name"),
        version=_text(path, manifest, "version"),
        created=_text(path, manifest, "created"),
        licence=_text(path, manifest, "licence"),
        embedding=embedding,
        digest=hashlib.sha256(manifest_bytes).hexdigest(),
        encoder=contents[ENCODER],
        prior=_object(path, PRIOR, contents[PRIOR]),
        provenance=_mapping(path, manifest, "provenance"),
        golden=_golden(path, manifest, embedding),
        taught=_taught(path, manifest),
    )


def _refuse(path: Path, what: str, hint: str = _AGAIN) -> NoReturn:
    raise BundleError(f"the bundle in {path} cannot be used: {what}", hint=hint)


def read_bundle_file(path: Path, name: str) -> bytes:
    """The content of a regular file, never through a link, never more than its limit."""
    limit = MAX_BYTES[name]
    try:
        # Without O_NONBLOCK a named pipe would hang here.
        descriptor = os.open(path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                _refuse(path, f"{name} is not a regular file")
            content = file.read(limit + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or str(error)
        _refuse(path, f"{name} cannot be read ({reason})")
    if len(content) > limit:
        _refuse(path, f"{name} is larger than {limit} bytes")
    return content


def _object(path: Path, name: str, content: bytes) -> JsonObject:
    try:
        value = json.loads(
            content.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_no_key_twice
        )
    except RecursionError:
        _refuse(path, f"{name} is nested too deeply")
    except ValueError as error:
        _refuse(path, f"{name} is not JSON ({error})")
    if not isinstance(value, dict):
        _refuse(path, f"{name} is not a JSON object")
    if what := _unfit(value):
        _refuse(path, f"{name} {what}")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _no_key_twice(pairs: list[tuple[str, JsonValue]]) -> JsonObject:
    """An object; of a key that comes twice, readers could take the one or the other."""
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key comes twice")
    return value


def _unfit(value: object) -> str:
    """What in a value, at any depth, would hurt whoever shows it or counts with it; empty if fit.

    A bundle's provenance is shown to people as it is, and written as JSON again: control characters
    would command their terminal, halves of characters and infinite numbers cannot be written.
    """
    level: list[object] = [value]
    for _ in range(MAX_DEPTH):
        inner: list[object] = []
        for item in level:
            if isinstance(item, dict):
                inner += item
                inner += item.values()
            elif isinstance(item, list):
                inner += item
            elif isinstance(item, str):
                if _UNFIT.search(item):
                    return "holds text with control characters"
            elif isinstance(item, int | float) and not abs(item) < _LARGEST:
                return "holds a number that is not finite or absurdly large"
        if not inner:
            return ""
        level = inner
    return "is nested too deeply"


def _check_schema(path: Path, manifest: JsonObject) -> None:
    # Not above: numpy comes with it, and most who ask for a place or a digest need no features.
    from agent.loopnest.features.vector import FEATURES, FEATURES_VERSION

    schema = manifest.get("schema")
    if schema != SCHEMA or isinstance(schema, bool):
        _refuse(path, f"its schema is {str(schema)[:40]!r}; this agent reads {SCHEMA}", _MATCH)
    version = manifest.get("features_version")
    if version != FEATURES_VERSION or isinstance(version, bool):
        made = f"it was made for features version {str(version)[:40]!r}"
        _refuse(path, f"{made}; this agent has {FEATURES_VERSION}", _MATCH)
    if manifest.get("features") != list(FEATURES):
        _refuse(path, "its list of features is not this agent's", _MATCH)
    files = _mapping(path, manifest, "files")
    if sorted(files) != [ENCODER, PRIOR]:
        found = ", ".join(repr(str(x)[:40]) for x in sorted(files)[:8])
        _refuse(path, f"its manifest lists {found}; expected {ENCODER} and {PRIOR} only")


def _verified(path: Path, name: str, manifest: JsonObject) -> bytes:
    entry = _mapping(path, manifest, "files")[name]
    if not isinstance(entry, dict):
        _refuse(path, f"its manifest says nothing about {name}")
    content = read_bundle_file(path, name)
    if entry.get("bytes") != len(content):
        _refuse(path, f"{name} has {len(content)} bytes, not what its manifest says")
    if entry.get("sha256") != hashlib.sha256(content).hexdigest():
        _refuse(path, f"{name} is not the file its manifest describes (SHA-256 differs)")
    return content


def _text(path: Path, manifest: JsonObject, key: str) -> str:
    value = manifest.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= 200 or not value.isprintable():
        _refuse(path, f"its manifest has no proper {key!r}")
    return value


def _whole(path: Path, manifest: JsonObject, key: str, most: int) -> int:
    value = manifest.get(key)
    if not is_number(value) or not isinstance(value, int) or not 1 <= value <= most:
        _refuse(path, f"{key!r} in its manifest is not a whole number from 1 to {most}")
    return value


def _mapping(path: Path, manifest: JsonObject, key: str) -> JsonObject:
    value = manifest.get(key)
    if not isinstance(value, dict):
        _refuse(path, f"its manifest has no proper {key!r}")
    return value


def _taught(path: Path, manifest: JsonObject) -> frozenset[str]:
    """Marks of loops; of those that this agent does not know nothing follows."""
    words = manifest.get("taught", [])
    if not isinstance(words, list) or len(words) > MAX_TAUGHT:
        _refuse(path, f"'taught' in its manifest is not a list of at most {MAX_TAUGHT} words")
    if not all(isinstance(word, str) and len(word) <= MAX_WORD for word in words):
        _refuse(path, f"'taught' in its manifest is not a list of words of at most {MAX_WORD}")
    return frozenset(map(str, words))


def _golden(
    path: Path, manifest: JsonObject, embedding: int
) -> tuple[list[list[float]], list[list[float]]]:
    if "golden" not in manifest:
        return [], []
    golden = _mapping(path, manifest, "golden")
    rows, features = golden.get("features"), manifest["features"]
    count, width = (len(x) if isinstance(x, list) else 0 for x in (rows, features))
    return (
        _table(path, rows, count, width),
        _table(path, golden.get("embedding"), count, embedding),
    )


def _table(path: Path, rows: object, count: int, width: int) -> list[list[float]]:
    if not isinstance(rows, list) or not 1 <= len(rows) == count <= MAX_GOLDEN:
        _refuse(path, "the golden rows in its manifest do not fit together")
    for row in rows:
        if not isinstance(row, list) or len(row) != width or not all(map(_bounded, row)):
            _refuse(path, f"a golden row in its manifest is not {width} numbers")
    return rows


def _bounded(value: object) -> bool:
    # False for NaN, and exact for whole numbers of any length.
    return is_number(value) and abs(value) < _LARGEST

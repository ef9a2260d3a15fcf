"""What is inside: a bill of materials (SBOM) of a wheel as it is built, and of the package.

    python -m tools.sbom WHEELS ARCHITECTURE RELEASE > calibration-agent.cdx.json

Either is a function of the files it describes, so that the same files give the same bytes.
Source: CycloneDX 1.6 (https://cyclonedx.org/docs/1.6/json/); PEP 770 for its place in a wheel.
"""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias
from urllib.parse import quote

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

Component: TypeAlias = dict[str, Any]

NAME = "calibration-agent"
FILE = f"{NAME}.cdx.json"
KINDS = {".onnx": "machine-learning-model", ".json": "data"}  # anything else is a "file"
_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"  # what builds it runs it
HERE = {  # what the package is for, whatever builds it
    "python_version": _PYTHON,
    "python_full_version": f"{_PYTHON}.0",
    "os_name": "posix",
    "sys_platform": "linux",
    "platform_system": "Linux",
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
}
ALLOWED_NAME = 60  # characters: some put a licence's whole text where its name belongs


def document(
    subject: Component, components: Iterable[Component], needs: Mapping[str, Iterable[str]]
) -> str:
    """The bill as JSON.

    Args:
        subject: what it is about.
        components: what is inside, each with a ``bom-ref`` of its own.
        needs: by ``bom-ref``, those of what it cannot do without.
    """
    bill = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"lifecycles": [{"phase": "build"}], "component": subject},
        "components": sorted(components, key=lambda c: str(c["bom-ref"])),
        "dependencies": [{"ref": r, "dependsOn": sorted(needs[r])} for r in sorted(needs)],
    }
    return json.dumps(bill, indent=1, ensure_ascii=False) + "\n"


def of_wheel(ours: Component, contents: Mapping[str, bytes], prebuilt: Sequence[str]) -> str:
    """The bill of our own wheel: what is in it that is not source.

    Args:
        ours: the wheel itself.
        contents: files by their path in the wheel.
        prebuilt: which of these are executables; the compiler's libraries are in each.
    """
    linked = _linked() if prebuilt else []
    needs = {path: [str(c["bom-ref"]) for c in linked] for path in prebuilt}
    inside = [*(_file(path, content) for path, content in contents.items()), *linked]
    return document(ours, inside, {str(ours["bom-ref"]): contents, **needs})


def _file(path: str, content: bytes) -> Component:
    kind = KINDS.get(PurePosixPath(path).suffix, "file")
    return {"type": kind, "bom-ref": path, "name": path, "hashes": _hashes(content)}


def _hashes(content: bytes) -> list[Component]:
    return [{"alg": "SHA-256", "content": hashlib.sha256(content).hexdigest()}]


def library(name: str, number: str, licences: list[Component], **more: Any) -> Component:
    """A distribution of Python."""
    purl = f"pkg:pypi/{name}@{number}"
    known = {"type": "library", "bom-ref": purl, "name": name, "version": number, "purl": purl}
    return {**known, "licenses": licences, **more}


def _linked() -> list[Component]:
    """What zig links into a static executable: its own run time and its C library."""
    header = files("ziglang") / "lib/libc/musl/src/internal/version.h"
    number = header.read_text(encoding="utf-8").split('"')[1]
    purl, mit = f"pkg:generic/musl@{number}", [{"license": {"id": "MIT"}}]
    return [
        library("ziglang", version("ziglang"), mit, description="compiler and compiler-rt"),
        {"type": "library", "bom-ref": purl, "name": "musl", "version": number, "purl": purl}
        | {"licenses": mit, "description": "C library, as ziglang brings it"},
    ]


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel file, read.

    Attributes:
        metadata: its METADATA.
        hashes: of the file, as published.
        libraries: what auditwheel has put into it, found in ``NAME.libs``.
        bills: paths and contents of the bills of materials that it brings (PEP 770).
    """

    metadata: Message
    hashes: list[Component]
    libraries: list[Component]
    bills: dict[str, bytes]

    @classmethod
    def read(cls, path: Path) -> Wheel:
        """Read a file."""
        with zipfile.ZipFile(path) as file:
            names = [PurePosixPath(n) for n in file.namelist() if not n.endswith("/")]
            [metadata] = (n for n in names if n.match("*.dist-info/METADATA"))
            return cls(
                BytesParser().parsebytes(file.read(str(metadata))),
                _hashes(path.read_bytes()),
                [_file(str(n), file.read(str(n))) for n in names if n.match("*.libs/*.so*")],
                {str(n): file.read(str(n)) for n in names if n.match("*.dist-info/sboms/*")},
            )

    @property
    def name(self) -> str:
        """As package indexes compare names."""
        return canonicalize_name(self.metadata["Name"])

    def own(self) -> Component:
        """The bill of our own wheel."""
        [bill] = self.bills.values()
        read: Component = json.loads(bill)
        return read

    def component(self) -> Component:
        """Its entry: with what is inside it, or where its own bills lie in the package."""
        inside = self.own()["components"] if self.name == NAME else self.libraries
        more: Component = {"hashes": self.hashes}
        if inside:
            more["components"] = inside
        if self.bills:
            more["externalReferences"] = [{"type": "bom", "url": path} for path in self.bills]
        return library(self.name, self.metadata["Version"], licences(self.metadata), **more)

    def needs(self, extras: Iterable[str] = ("",)) -> Iterator[Requirement]:
        """What it cannot do without, where the package is installed."""
        for line in self.metadata.get_all("Requires-Dist", []):
            wanted = Requirement(line)
            if not wanted.marker or any(
                wanted.marker.evaluate({**HERE, "extra": extra}) for extra in extras
            ):
                yield wanted


def licences(metadata: Message) -> list[Component]:
    """A distribution's licences, as its own METADATA names them."""
    if expression := metadata["License-Expression"]:
        return [{"expression": expression}]
    classified = [
        line.rsplit(" :: ", 1)[1]
        for line in metadata.get_all("Classifier", [])
        if line.startswith("License :: ")
    ]
    name = (metadata["License"] or "").strip()
    if name and len(name) <= ALLOWED_NAME and "\n" not in name:
        classified = [name]
    return [{"license": {"name": each}} for each in classified]


def of_package(wheels: Iterable[Wheel], architecture: str, release: str) -> str:
    """The bill of the package: every wheel in it, and who needs whom.

    Args:
        wheels: all that are installed in it, our own among them.
        architecture: as Debian names it.
        release: the distribution and its version, such as ``debian12``.
    """
    known = {w.name: w for w in wheels}
    components = {name: w.component() for name, w in known.items()}
    refs = {name: str(c["bom-ref"]) for name, c in components.items()}
    # An extra is wanted by somebody else: scikit-learn[docs] by nobody, securesystemslib[crypto].
    extras: dict[str, set[str]] = {name: {""} for name in known}
    for wanted in (r for w in known.values() for r in w.needs()):
        extras[canonicalize_name(wanted.name)] |= wanted.extras
    needs = {
        refs[name]: {refs[canonicalize_name(r.name)] for r in w.needs(extras[name])}
        for name, w in known.items()
    }
    for entry in known[NAME].own()["dependencies"]:
        needs[entry["ref"]] = needs.get(entry["ref"], set()) | set(entry["dependsOn"])
    own = components[NAME]
    number = f"{own['version']}+{release}"
    purl = f"pkg:deb/{NAME}@{quote(number)}?arch={architecture}&distro={release}"
    package = {"type": "application", "bom-ref": purl, "name": NAME, "version": number}
    package |= {"purl": purl, "licenses": own["licenses"]}
    return document(package, components.values(), {purl: [own["bom-ref"]], **needs})


if __name__ == "__main__":
    folder, built_for, built_on = sys.argv[1:]
    read = [Wheel.read(path) for path in sorted(Path(folder).glob("*.whl"))]
    sys.stdout.write(of_package(read, built_for, built_on))

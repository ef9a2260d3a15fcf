"""Wheels: pure by default; with CALIBRATION_AGENT_PREBUILT=x86_64 or aarch64, for that platform.

A platform's wheel carries the fixed set prebuilt (bundles/fixed_set/prebuild.py), and every wheel
the bill of what is in it that is not source (tools/sbom.py). Nothing is written into the source
tree, so that no wheel ever holds what an earlier build left there.
"""

import os
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

VARIABLE = "CALIBRATION_AGENT_PREBUILT"
INSIDE = "agent/kernels/prebuilt"
BUNDLE = "bundles/default"
# Static executables need no C library, so the wheel fits every Linux of its architecture.
TAG = "py3-none-manylinux2014_{0}.musllinux_1_1_{0}"

LINK = re.compile(r"\[([^\]]+)\]\((?!https?:)([^)#]+)[^)]*\)")
BESIDE = (
    "\n\n(The files that are named here lie in `share/doc/calibration-agent/` of the environment "
    "that this is installed into.)\n\n"
)


class ReadmeHook(MetadataHookInterface):
    """The README as a package index shows it, where links to files of the source lead nowhere."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Name files in place of linking to them."""
        title, text = Path(self.root, "README.md").read_text(encoding="utf-8").split("\n\n", 1)
        words = title + BESIDE + LINK.sub(r"\1 (`\2`)", text)
        metadata["readme"] = {"content-type": "text/markdown", "text": words}


class WheelHook(BuildHookInterface):
    """Adds the bill of materials and, where the environment asks for it, the prebuilt set."""

    def dependencies(self) -> list[str]:
        """What building the set takes: the compiler, and what emitting C takes."""
        wanted = os.environ.get(VARIABLE)
        return self.metadata.config["dependency-groups"]["prebuild"] if wanted else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the set, have it put into the wheel, and write the bill."""
        if version == "editable":
            return
        sys.path.insert(0, self.root)
        from tools.sbom import FILE, library, of_wheel

        self._folder = TemporaryDirectory(prefix="wheel-")
        place = Path(self._folder.name)
        made = self._prebuild(os.environ.get(VARIABLE, ""), place / "prebuilt", build_data)
        bundle = {f"{BUNDLE}/{p.name}": p for p in Path(self.root, BUNDLE).glob("*.*")}
        contents = {name: path.read_bytes() for name, path in (bundle | made).items()}
        project = self.metadata.core
        ours = library(project.name, project.version, [{"expression": project.license_expression}])
        executables = [name for name, path in made.items() if not path.suffix]
        bill = place / FILE
        bill.write_text(of_wheel(ours, contents, executables), encoding="utf-8")
        build_data["sbom_files"].append(str(bill))

    def _prebuild(
        self, architecture: str, place: Path, build_data: dict[str, Any]
    ) -> dict[str, Path]:
        """Build the set where one is asked for; its files by their path in the wheel."""
        if not architecture:
            return {}
        from bundles.fixed_set.prebuild import ARCHITECTURES, prebuild

        if architecture not in ARCHITECTURES:
            raise SystemExit(
                f"{VARIABLE} is {architecture!r}; it may be {', '.join(ARCHITECTURES)}"
            )
        prebuild(ARCHITECTURES[architecture], place)
        build_data["force_include"][str(place)] = INSIDE
        build_data["pure_python"] = False
        build_data["tag"] = TAG.format(architecture)
        return {f"{INSIDE}/{path.name}": path for path in place.iterdir()}

    def finalize(self, *_: Any) -> None:
        """Forget what was built."""
        if folder := getattr(self, "_folder", None):
            folder.cleanup()

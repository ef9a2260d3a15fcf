"""Wheels: pure by default; with CALIBRATION_AGENT_PREBUILT=x86_64 or aarch64, for that platform.

A platform's wheel carries the fixed set prebuilt (bundles/fixed_set/prebuild.py). Nothing
is written into the source tree, so that no wheel ever holds what an earlier build left there.
"""

import os
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

VARIABLE = "CALIBRATION_AGENT_PREBUILT"
NEEDED = ("islpy", "psutil", "pycparser")  # of our dependencies: what emitting C takes
ZIGLANG = "ziglang==0.17.0"
INSIDE = "agent/kernels/prebuilt"
# Static executables need no C library, so the wheel fits every Linux of its architecture.
TAG = "py3-none-manylinux2014_{0}.musllinux_1_1_{0}"


class PrebuiltHook(BuildHookInterface):
    """Adds the prebuilt set to the wheel where the environment asks for it."""

    def dependencies(self) -> list[str]:
        """What building the set takes: the compiler, and what emitting C takes."""
        if not os.environ.get(VARIABLE):
            return []
        ours = self.metadata.core.dependencies
        return [ZIGLANG, *(d for d in ours if re.split(r"[^\w-]", d)[0] in NEEDED)]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the set and have it put into the wheel, which is then of one platform."""
        architecture = os.environ.get(VARIABLE)
        if not architecture or version == "editable":
            return
        sys.path.insert(0, self.root)
        from bundles.fixed_set.prebuild import ARCHITECTURES, prebuild

        if architecture not in ARCHITECTURES:
            raise SystemExit(
                f"{VARIABLE} is {architecture!r}; it may be {', '.join(ARCHITECTURES)}"
            )
        self._folder = TemporaryDirectory(prefix="prebuilt-")
        prebuild(ARCHITECTURES[architecture], Path(self._folder.name))
        build_data["force_include"][self._folder.name] = INSIDE
        build_data["pure_python"] = False
        build_data["tag"] = TAG.format(architecture)

    def finalize(self, *_: Any) -> None:
        """Forget the set that was built."""
        if folder := getattr(self, "_folder", None):
            folder.cleanup()

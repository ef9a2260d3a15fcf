"""Commands that see other file systems than the rest of the machine does."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest


def run_with_mounts(
    mounts: str, asked: str, environment: Mapping[str, str], place: Path | None = None
) -> subprocess.CompletedProcess:
    """Run a shell's ``asked`` where ``mounts`` have been made; skips where nobody may make any."""
    ran = subprocess.run(
        ["unshare", "-m", "sh", "-c", f"{mounts} || exit 99; {asked}"],
        env=dict(environment),
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,  # against hanging only
    )
    if ran.returncode == 99 or "unshare" in ran.stderr:
        pytest.skip("no mounts of its own may be made here")
    return ran

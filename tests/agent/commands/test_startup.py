"""What runs every hour starts with nothing that it does not use: it is mostly told "not due"."""

import subprocess
import sys

import pytest

from tests.conftest import environment

HEAVY = ("numpy", "onnxruntime", "islpy", "sklearn", "requests", "rich", "tuf", "cryptography")
IMPORTED = f"""
import sys
from agent.cli import main
code = main()
found = [name for name in {HEAVY!r} if name in sys.modules]
print("imported:", *found, file=sys.stderr)
sys.exit(code)
"""


def times_of(folder):
    return sorted((str(p), p.stat().st_mtime_ns) for p in (folder, *folder.rglob("*")))


@pytest.mark.parametrize(
    ("words", "code", "allowed"),
    [
        ("calibrate --if-due --bundle BUNDLE", 7, set()),
        ("calibrate --if-due --when-quiet --bundle BUNDLE", 7, set()),
        ("report", 7, set()),
        ("status", 0, {"rich"}),  # it draws a table
        ("status --json", 0, set()),
        ("history --json", 0, set()),
        ("config check", 0, set()),
    ],
)
def test_an_hourly_look_imports_nothing_heavy_and_writes_nothing(
    calibrated, tiny_bundle, words, code, allowed
):
    before = times_of(calibrated)
    arguments = [str(tiny_bundle) if w == "BUNDLE" else w for w in words.split()]
    command = [sys.executable, "-c", IMPORTED, *arguments, "--state-dir", calibrated]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert ran.returncode == code, ran.stderr
    assert set(ran.stderr.splitlines()[-1].split()[1:]) <= allowed
    assert times_of(calibrated) == before

"""The console script as root and as somebody else, for tests that are run as root.

The interpreter may lie where only root can go (pyenv below /root): then both run in a mount
namespace of their own in which everybody can go there.
"""

import os
import pwd
import subprocess
from pathlib import Path

import pytest

from tests.conftest import SCRIPT, Ran, environment

NOBODY = pwd.getpwnam("nobody")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
OPENED = """
set -e
mkdir -p "$1/$3"
chmod 755 "$1"
mount --bind "$2/$3" "$1/$3"
mount --rbind "$1" "$2"
shift 3
exec "$@"
"""


def _hidden_from_others():
    """The folder on the way to the interpreter where only its owner can go, and what is next."""
    way = Path(os.__file__).resolve().parents
    hidden = [p for p in way if not p.stat().st_mode & 0o1]
    if not hidden:
        return None
    return hidden[-1], Path(os.__file__).resolve().relative_to(hidden[-1]).parts[0]


def readable(place):
    """What a command begins with so that others can run Python; skips where that is not allowed."""
    found = _hidden_from_others()
    if found is None:
        return []
    folder, following = found
    start = ["unshare", "--mount", "sh", "-c", OPENED, "sh", str(place / "opened"), str(folder)]
    start.append(following)
    tried = subprocess.run([*start, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"others cannot read {folder}, and it cannot be mounted: {tried.stderr}")
    return start


def run(prefix, *arguments, timeout=120, **env):
    """The console script behind ``prefix``, in an environment without the developer's own."""
    done = subprocess.run(
        [*prefix, SCRIPT, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=environment(**env),
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def become(user=NOBODY):
    """What a command begins with so that it runs as another user."""
    numbers = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    return ["setpriv", *numbers, "--"]

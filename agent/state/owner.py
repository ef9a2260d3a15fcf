"""Root acts as the owner of the state: what root left there, its owner could not read.

``sudo agent calibrate`` on a machine with the system service so works on the service's state, and
with no more rights than the service.
"""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path

from agent.errors import StateError
from agent.system.private import inspect_path, name_of, refuse_if_replaceable


def act_as_owner(directory: Path) -> str | None:
    """Give up root for good, in favour of a state directory's owner.

    Returns:
        Who that is; None where nothing had to be done: not root, no directory yet, or root's own.

    Raises:
        StateError: a third user may put another directory in its place, this process may not change
            its user, or its owner could not run the agent.
    """
    try:
        place = inspect_path(directory) if os.geteuid() == 0 else None
    except OSError:  # whoever opens it will say what is wrong
        return None
    if place is None or (owner := place.found) is None:
        return None
    refuse_if_replaceable(place, owner.st_uid)
    if owner.st_uid == 0:
        return None
    user = _user(owner.st_uid)
    name = name_of(owner.st_uid)
    _become(owner.st_uid, user.pw_gid if user else owner.st_gid, user)
    _can_run(name, directory)
    if not os.access(os.environ.get("TMPDIR", "/"), os.X_OK):  # root's own, as pam_tmpdir makes
        del os.environ["TMPDIR"]
    return name


def _user(uid: int) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        return None


def _become(uid: int, gid: int, user: pwd.struct_passwd | None) -> None:
    """Groups first: without root they could not be changed any more."""
    try:
        if user is None:
            os.setgroups([gid])
        else:
            os.initgroups(user.pw_name, gid)
            os.environ |= {"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name}
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except OSError as error:
        raise StateError(
            f"the state belongs to the user {name_of(uid)}, and this process may not become it: "
            f"{error.strerror}",
            f"Run it as that user: `sudo -u '{name_of(uid)}' agent ...`.",
        ) from error


def _can_run(name: str, directory: Path) -> None:
    """Modules are imported when they are needed: that would fail in the middle of the work."""
    for place in (Path(__file__), Path(os.__file__), Path(sys.executable)):
        if not os.access(place, os.R_OK):
            raise StateError(
                f"the state directory {directory} belongs to the user {name}, who may not read "
                f"{place}",
                "Install the agent where every user can read it, such as /opt, or name another "
                "directory with --state-dir DIR.",
            )

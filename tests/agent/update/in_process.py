"""The command in this process: what it prints and its exit code, without the cost of starting it.

The child that tries a bundle is started once for each bundle: what it finds depends on the bundle
alone. The commands as processes of their own, with their children, are tried by
``test_update.test_a_bundle_from_a_web_server_is_put_in_force_and_predicts`` and the crash points.
"""

import contextlib
import io
import os
import signal
import sys

import pytest

from agent import cli
from agent.bundle import probe as probing
from agent.bundle.bundle import Bundle
from tests.conftest import Ran, environment

_KNOWN: dict[str, float] = {}
_REAL = probing.probe


def tried_once(bundle: Bundle) -> float:
    """In place of ``probe``."""
    if bundle.digest not in _KNOWN:
        _KNOWN[bundle.digest] = _REAL(bundle)
    return _KNOWN[bundle.digest]


def agent(*arguments: object, **env: str) -> Ran:
    """As ``tests.conftest.agent``."""
    out, err = io.StringIO(), io.StringIO()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ.keys() - environment().keys():
            patch.delenv(name)
        for name, value in environment(**env).items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", ["agent", *map(str, arguments)])
        patch.setattr(probing, "probe", tried_once)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cli.main()
    for number, handler in handlers.items():
        signal.signal(number, handler)
    return Ran(int(code), out.getvalue(), err.getvalue())

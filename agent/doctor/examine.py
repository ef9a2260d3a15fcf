"""`agent doctor` from top to bottom: every check once, each with its own end."""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, wait
from dataclasses import replace

from agent.doctor import machine, model, outside, place
from agent.doctor.findings import Finding, answer_of, look, problem, warning
from agent.doctor.scene import Scene, scene_of
from agent.doctor.site_command import site_command
from agent.errors import AgentError
from agent.settings.config import SYSTEM_STATE
from agent.settings.resolve import resolve_config
from agent.state import typed
from agent.state.owner import act_as_owner

Looking = Callable[[Scene], Iterable[Finding]]
CHECKS: tuple[tuple[str, Looking], ...] = (
    ("configuration", place.configuration),
    ("telling", site_command),
    ("clock", place.clock),
    ("disk", place.disk),
    ("permissions", place.permissions),
    ("state", place.database),
    ("compiler", machine.toolchain),
    ("CPU", machine.cpu),
    ("noise", machine.quiet),
    ("bundle", model.bundle),
    ("calibration", model.calibration),
    ("calibration", model.nothing_left),
    ("timers", outside.timers),
    ("repository", outside.repository),
    ("reporting", outside.reporting),
    ("last error", place.last_error),
)
PATIENCE_S = 5.0  # with those that wait for others; each gives up earlier, as a rule
_OWNERS = re.compile(r"`(?=(?:agent|rm|chmod) )")  # commands for the owner of the state
_AT_HAND = frozenset((
    place.configuration, place.clock, place.disk, place.permissions, place.database,
    place.last_error, model.bundle, model.calibration, outside.timers, outside.reporting,
))  # fmt: skip
_SLOW = frozenset((machine.toolchain, outside.timers, outside.repository))  # that wait for others


def examine(environment: Mapping[str, str], flags: Mapping[str, str | None]) -> dict[str, object]:
    """Look at everything, as the owner of the state sees it; nothing is changed.

    Returns:
        The answer (docs/reference/schemas/doctor.json).
    """
    state_dir = resolve_config(environment, flags).config.state_dir
    try:
        acting = act_as_owner(state_dir)
        refused: list[Finding] = []
    except AgentError as error:
        acting, refused = None, [problem("permissions", error.message, error.hint)]
    if acting:  # what it can read and set is what counts
        environment = {
            **environment,
            **{k: os.environ[k] for k in ("HOME", "USER") if k in os.environ},
        }
        flags = {**flags, "state_dir": str(state_dir)}
    with scene_of(environment, flags) as scene:
        findings, believed = [*refused, *_all(scene)], model.verdict_in_force(scene)
    if state_dir == SYSTEM_STATE:
        findings = [_with_sudo(found) for found in findings]
    verdict = typed.to_json(believed) if believed else None
    told = {"verdict": verdict, "user": acting, "state_dir": str(state_dir)}
    return {**answer_of(findings), **told}


def needing_person(scene: Scene) -> list[Finding]:
    """What somebody has to do something about; nothing is compiled, timed or fetched for it."""
    looked = (found for name, run in CHECKS if run in _AT_HAND for found in _run(name, run, scene))
    return [found for found in looked if found.person]


def _with_sudo(found: Finding) -> Finding:
    """What is to be done about the service's state is done by root, who acts as its owner."""
    return replace(found, advice=_OWNERS.sub("`sudo ", found.advice))


def _all(scene: Scene) -> Iterator[Finding]:
    """What every check finds, in order; those that wait for others wait at the same time."""
    until = time.monotonic() + PATIENCE_S
    begun = {run: _begin(name, run, scene) for name, run in CHECKS if run in _SLOW}
    for name, run in CHECKS:
        yield from _waited(begun[run], name, until) if run in begun else _run(name, run, scene)


def _begin(name: str, run: Looking, scene: Scene) -> Future[list[Finding]]:
    """A check in a thread that nobody has to wait for, not even the end of the process."""
    found: Future[list[Finding]] = Future()
    work = threading.Thread(
        target=lambda: found.set_result(_run(name, run, scene)), name=name, daemon=True
    )
    work.start()
    return found


def _waited(found: Future[list[Finding]], name: str, until: float) -> list[Finding]:
    try:
        return found.result(max(0.0, until - time.monotonic()))
    except TimeoutError:
        _end_children()
        wait([found], timeout=1.0)  # it removes what it has made
        words = f"it has not answered within {PATIENCE_S:g} s"
        return [warning(name, words, "Try it by hand; is its disk or network hanging?")]


def _end_children() -> None:
    """End a compiler that hangs, and what it started: nobody would do so after this process."""
    import psutil

    with contextlib.suppress(psutil.Error, OSError):  # a place without /proc
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()


def _run(name: str, run: Looking, scene: Scene) -> list[Finding]:
    return list(look(name, lambda: run(scene)))

"""`agent doctor` from top to bottom: every check once, each with its own end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from agent.config import resolve
from agent.doctor import machine, model, outside, place
from agent.doctor.scene import Scene, opened
from agent.errors import AgentError
from agent.findings import Finding, answer_of, look, problem
from agent.owner import act_as_owner

Looking = Callable[[Scene], Iterable[Finding]]
CHECKS: tuple[tuple[str, Looking], ...] = (
    ("configuration", place.configuration),
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
    ("last error", place.errors),
)
_SLOW = frozenset((machine.toolchain, outside.timers, outside.repository))  # that wait for others


def examine(environment: Mapping[str, str], flags: Mapping[str, str | None]) -> dict[str, Any]:
    """Look at everything, as the owner of the state sees it; nothing is changed.

    Returns:
        The answer (docs/reference/schemas/doctor.json).
    """
    state_dir = resolve(environment, flags).config.state_dir
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
    resolved = resolve(environment, flags)
    with opened(state_dir) as (state, trouble):
        scene = Scene(environment, resolved, resolved.config, state, trouble, time.time())
        findings = [*refused, *_all(scene)]
    return {**answer_of(findings), "user": acting, "state_dir": str(state_dir)}


def _all(scene: Scene) -> Iterator[Finding]:
    """What every check finds, in order; those that wait for others wait at the same time."""
    with ThreadPoolExecutor(len(_SLOW)) as pool:
        begun = {run: pool.submit(_run, name, run, scene) for name, run in CHECKS if run in _SLOW}
        for name, run in CHECKS:
            yield from begun[run].result() if run in begun else _run(name, run, scene)


def _run(name: str, run: Looking, scene: Scene) -> list[Finding]:
    return list(look(name, lambda: run(scene)))

"""What a command times programs with, from what is set: found once, at its door."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.errors import CompilerError
from agent.measure import prebuilt
from agent.measure.compiler import (
    PREBUILT_NAME,
    build_flags,
    compiler_mark,
    tuning_flags,
    working_compiler,
)
from agent.measure.machine import Machine
from agent.measure.prebuilt import find_prebuilt
from agent.measure.runner import Runner
from agent.measure.session import TimingSettings
from agent.measure.toolchain import Toolchain
from agent.measure.worker_runner import WorkerRunner

if TYPE_CHECKING:
    from agent.settings.config import Config

CACHE = "cache"  # of compiled code, in the state directory


def toolchain_for_set(compiler: str | None, machine: Machine) -> Toolchain:
    """What to time the fixed set with: the compiler, or the prebuilt set where there is none.

    Args:
        compiler: a name or path, which must then work; ``prebuilt``: not even looked for.
        machine: this one.

    Raises:
        CompilerError: no compiler works, and no prebuilt set is there or runs on this machine.
    """
    if compiler == PREBUILT_NAME:
        return find_prebuilt(machine)
    try:
        return working_compiler(compiler)
    except CompilerError:
        if compiler or os.environ.get("CC") or not prebuilt.is_installed():
            raise
    return replace(find_prebuilt(machine), mark=mark_for_set(compiler, machine))


def mark_for_set(compiler: str | None, machine: Machine) -> str:
    """What changes when another toolchain is there to time the fixed set with; empty: none is.

    Found in milliseconds; the compiler is not tried, so it may still be one that does not work.
    """
    looks: list[Callable[[], str]] = [lambda: find_prebuilt(machine).mark]
    if compiler != PREBUILT_NAME:
        looks.insert(0, lambda: compiler_mark(compiler))
    for look in looks:
        with contextlib.suppress(CompilerError):
            return look()
    return ""


def runner_for_programs(
    config: Config,
    cflags: Sequence[str] = (),
    settings: TimingSettings | None = None,
    compile_s: float = math.inf,
) -> Runner:
    """What times programs of a person's own.

    Args:
        config: which compiler, and where what it makes is kept.
        cflags: of the person's build; where they say how to optimise, nothing else does.
        settings: how to measure.
        compile_s: what compiling a version may take where it would be worth no more.

    Raises:
        CompilerError: there is no compiler, or it does not take the flags.
    """
    flags = build_flags(cflags)
    compiler = working_compiler(config.compiler, flags)
    if flags is None and (more := tuning_flags(cflags)):
        compiler = compiler.with_flags(*more)  # as the function itself is, or they do not compare
    return WorkerRunner(replace(compiler, most_s=compile_s), config.state_dir / CACHE, settings)


def runner_for_set(config: Config, toolchain: Toolchain, machine: Machine) -> Runner:
    """What times the fixed set, with ``toolchain_for_set`` and the facts of this machine."""
    return WorkerRunner(toolchain, config.state_dir / CACHE, machine=machine)

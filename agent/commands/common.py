"""What the commands share: their common options, settings, the locked state, the answer."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from agent.terminal import console

if TYPE_CHECKING:
    from agent.settings.config import Config
    from agent.state.lock import HeldLock
    from agent.state.state import State
    from agent.terminal.blocks import Answer, Block

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
StateDir = Annotated[
    str | None,
    typer.Option(
        "--state-dir",
        metavar="DIR",
        help="Where timings and calibrations are kept (default: AGENT_STATE_DIR, "
        "STATE_DIRECTORY or as configured; for root /var/lib/calibration-agent where there is one; "
        "else ~/.local/state/calibration-agent).",
    ),
]
BundleDir = Annotated[
    str | None,
    typer.Option("--bundle", metavar="DIR", help="Another encoder bundle than the default."),
]
Compiler = Annotated[
    str | None,
    typer.Option(
        "--compiler",
        metavar="CC",
        help="The C compiler (default: as configured, else CC, cc, gcc, clang); for the fixed set "
        "also `prebuilt`, the default where there is none.",
    ),
]

Report = Annotated[
    str | None,
    typer.Option("--report", metavar="FILE", help="Also write a page for a browser (HTML)."),
]


@dataclass(frozen=True)
class CompilerOptions:
    """With what programs are compiled, and where what is known of this machine is."""

    compiler: Compiler = None
    state_dir: StateDir = None

    def settings(self, **more: str | None) -> Config:
        """The settings of the command."""
        return settings(compiler=self.compiler, state_dir=self.state_dir, **more)


@dataclass(frozen=True)
class ModelOptions:
    """The same, and the bundle: which model it is."""

    bundle: BundleDir = None
    compiler: Compiler = None
    state_dir: StateDir = None

    def settings(self, **more: str | None) -> Config:
        """The settings of the command."""
        flags = {"bundle": self.bundle, "compiler": self.compiler, "state_dir": self.state_dir}
        return settings(**flags, **more)


def settings(**flags: str | None) -> Config:
    """The settings of this command: files, environment, then ``flags`` (None: not given)."""
    from agent.settings.resolve import load_config

    found = load_config(os.environ, flags)
    console.detail(f"settings are read; the state is in {found.state_dir}")
    return found


def check_compiler(named: str | None) -> None:
    """A compiler named by mistake is the slip of who named it, not remembered as the machine's."""
    from agent.measure.machine import read_machine
    from agent.measure.resolve import toolchain_for_set

    if named is not None:
        toolchain_for_set(named, read_machine())


@contextmanager
def writing(config: Config, command: str) -> Iterator[State]:
    """The state, locked and open for writing; whoever holds the lock is named.

    How the work ends is remembered (``agent.state.last_error``).
    """
    with writing_at_times(config, command) as (state, _):
        yield state


@contextmanager
def writing_at_times(config: Config, command: str) -> Iterator[tuple[State, HeldLock]]:
    """As ``writing``, with the lock, for work that lets go of it while it waits."""
    from agent.state.last_error import remembering
    from agent.state.lock import hold
    from agent.state.state import open_state

    own_directory(config)
    with hold(config.state_dir, command) as lock, open_state(config.state_dir) as state:
        for line in state.notices:
            console.warn(line)
        with remembering(state, command):
            yield state, lock


def own_directory(config: Config) -> None:
    """The state directory, there and writable; root becomes its owner for good."""
    from agent.state.file import make_directory

    become_owner(config)
    make_directory(config.state_dir)


def become_owner(config: Config) -> Config:
    """Root becomes the owner of the state directory for good, where there is one; ``config``."""
    from agent.state.owner import act_as_owner

    if name := act_as_owner(config.state_dir):
        console.note(f"note: acting as the user {name}, whose state {config.state_dir} is")
    return config


def print_answer(
    body: Mapping[str, object], show: Callable[[Answer], list[Block]], as_json: bool
) -> None:
    """Print ``body`` as JSON, or as ``show`` words it."""
    console.answer(body, None if as_json else show(body))

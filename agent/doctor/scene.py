"""What all checks look at: the settings, the state that could be opened, the moment."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import AgentError
from agent.settings.config import Config
from agent.settings.resolve import Resolved, resolve_config

if TYPE_CHECKING:
    from agent.state.state import State


@dataclass(frozen=True)
class Scene:
    """What the checks look at.

    Attributes:
        environment: of this process.
        resolved: the configuration with its mistakes; ``config``: what can be used of it.
        state: open for reading, empty where there is none; None where it cannot be read.
        trouble: why it cannot be.
        now: seconds since 1970, by this machine's clock.
    """

    environment: Mapping[str, str]
    resolved: Resolved
    config: Config
    state: State | None
    trouble: AgentError | None
    now: float

    @property
    def directory(self) -> Path:
        """The state directory."""
        return self.config.state_dir


@contextlib.contextmanager
def scene_of(environment: Mapping[str, str], flags: Mapping[str, str | None]) -> Iterator[Scene]:
    """What there is to look at now, mistakes in the settings or not."""
    resolved = resolve_config(environment, flags)
    with opened(resolved.config.state_dir) as (state, trouble):
        yield Scene(environment, resolved, resolved.config, state, trouble, time.time())


@contextlib.contextmanager
def opened(directory: Path) -> Iterator[tuple[State | None, AgentError | None]]:
    """The state for reading, or why not."""
    from agent.state.state import read_state

    with contextlib.ExitStack() as stack:
        try:
            state, trouble = stack.enter_context(read_state(directory)), None
        except AgentError as error:
            state, trouble = None, error
        yield state, trouble

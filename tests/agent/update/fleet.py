"""Many machines, each with a state directory of its own, at work in two processes.

Each runs what ``agent update`` runs. One thing is saved: the child process that tries a bundle is
started once for each bundle in each of the two processes, and not once for each machine; what it
finds depends on the bundle alone. And the secret of a machine follows from its name, so that the
same machines are in a roll-out whenever the test runs.
"""

import hashlib
import multiprocessing
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.bundle import probe as probing
from agent.bundle.installed import bundle_in_force
from agent.settings.config import Config
from agent.state.lock import hold
from agent.state.state import open_state
from agent.update import flow, manage
from tests.agent.update.in_process import tried_once

PROCESSES = 2


@dataclass(frozen=True)
class Seen:
    """A machine after it has asked: ``present`` is the digest of its bundle, read from its disk."""

    name: str
    outcome: str
    notes: tuple[str, ...]
    present: str
    secret: bytes


class Fleet:
    """What a test tells its machines to do."""

    def __init__(self, pool: ProcessPoolExecutor, place: Path, root: Path) -> None:
        self._pool, self._place, self._root = pool, place, root

    def ask(self, url: str, channel: str, names: Iterable[str]) -> list[Seen]:
        """Let machines update, all of them at once as far as two processes can."""
        configs = [
            Config(self._place / name, repository=url, channel=channel, trusted_root=self._root)
            for name in names
        ]
        return list(self._pool.map(_ask, configs, chunksize=5))

    def pin(self, names: Iterable[str]) -> None:
        """As ``agent bundle pin`` does."""
        list(self._pool.map(_pin, [Config(self._place / name) for name in names]))


@contextmanager
def fleet(place: Path, root: Path) -> Iterator[Fleet]:
    """Machines below ``place`` that trust ``root``."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, context, initializer=_try_once) as pool:
        yield Fleet(pool, place, root)


def _ask(config: Config) -> Seen:
    config.state_dir.mkdir(exist_ok=True)
    with hold(config.state_dir, "update") as lock, open_state(config.state_dir) as state:
        secret = hashlib.sha256(config.state_dir.name.encode())
        state.remember(flow.SECRET, {"secret": secret.hexdigest()})
        answer = flow.update_bundle(config, state, lock, lambda _: None)
        found = bundle_in_force(state, config.state_dir)
        assert not found.notes
        notes = tuple(note["code"] for note in answer["notes"])
        drawn = flow.roll_out_secret(state)
    assert answer["after"]["digest"] == found.bundle.digest
    return Seen(config.state_dir.name, answer["outcome"], notes, found.bundle.digest, drawn)


def _pin(config: Config) -> None:
    with hold(config.state_dir, "bundle pin"), open_state(config.state_dir) as state:
        manage.pin_bundle(config, state)


def _try_once() -> None:
    probing.probe = tried_once

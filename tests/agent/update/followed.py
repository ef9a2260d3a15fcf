"""A centre at three times, and a machine that has followed it to the second."""

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent.bundle.installed import bundle_in_force
from agent.settings.config import Config
from agent.state.lock import hold
from agent.state.state import open_state, read_state
from agent.update import flow
from bundles.repository import rotation
from bundles.repository.renewal import renew_role
from tests.agent.update import in_process
from tests.agent.update.attacker import Mirror
from tests.agent.update.published import Centre, copied, made_bundle, new_centre
from tests.conftest import Ran, agent


@dataclass(frozen=True)
class Machine:
    """A state directory, and the root that the site placed."""

    state: Path
    root: Path

    def update(self, place: object, *more: object, **env: str) -> Ran:
        """The command, as a person or a timer runs it; with ``env`` in a process of its own."""
        words = ("update", *self.words(place), *more)
        return agent(*words, timeout=60, **env) if env else in_process.agent(*words)

    def words(self, place: object) -> tuple[object, ...]:
        return "--from", place, "--root", self.root, "--state-dir", self.state

    def call(self, place: object, *, channel: str = "stable", **more: bool) -> dict:
        """What the command does, without the cost of starting it."""
        config = Config(self.state, repository=str(place), channel=channel, trusted_root=self.root)
        self.state.mkdir(exist_ok=True)
        with hold(self.state, "update") as lock, open_state(self.state) as state:
            return flow.update_bundle(config, state, lock, lambda _: None, **more)

    def bundle(self) -> str:
        """The digest of the bundle in force; every byte of it is verified."""
        with read_state(self.state) as state:
            found = bundle_in_force(state, self.state)
        assert not found.notes
        return found.bundle.digest

    def remembered(self) -> object:
        """What happened to bundles here, and every file of every bundle."""
        with read_state(self.state) as state:
            events = state.events()
        folder = self.state / "bundles"
        return events, {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@dataclass(frozen=True)
class World:
    """A centre at three times, and a machine that has followed it to the second.

    ``rekeyed`` is the centre as ``later``, after it has replaced its online key.
    """

    old: Centre
    now: Centre
    later: Centre
    rekeyed: Centre
    machine: Machine
    digests: tuple[str, ...]

    def mirror(self, when: str, tmp: Path) -> Mirror:
        """A copy of the repository as it was then, to be bent."""
        return Mirror(getattr(self, when), tmp / f"mirror-{when}")


def made_world(place: Path) -> World:
    """Bundles 1, 2 and 3, an hour between them; the machine holds 1 and 2, and 2 is in force."""
    bundles = [made_bundle(place / f"bundle-{n}", str(n), seed=n) for n in (1, 2, 3)]
    times = [datetime.now(UTC) - timedelta(hours=h) for h in (4, 3, 2, 1)]
    centre = new_centre(place / "repository", times[0])
    centre.add(bundles[0], "pilot", now=times[1])
    digests = [centre.add(bundles[0], now=times[1])]
    old = copied(centre, place / "old")
    digests.append(centre.add(bundles[1], now=times[2]))
    for role in ("targets", "root"):  # so that these have an older version too
        renew_role(centre.at(times[2]), role)
    now = copied(centre, place / "now")
    digests.append(centre.add(bundles[2], now=times[3]))
    rekeyed = copied(centre, place / "rekeyed")
    rotation.replace_key(rekeyed.at(), "online")
    machine = Machine(place / "machine", centre.root)
    for each in (old, now):
        assert machine.call(each.public)["outcome"] == "activated"
    return World(old, now, centre, rekeyed, machine, tuple(digests))


@contextmanager
def unharmed(machine: Machine, world: World):
    """Whatever goes on in here leaves the machine as it was, with the second bundle in force."""
    before = machine.remembered()
    yield
    assert machine.bundle() == world.digests[1]
    assert machine.remembered() == before


def refused(ran: Ran, code: int, words: str) -> None:
    """The command said what is wrong and what to do, in two lines and no traceback."""
    assert ran.code == code, ran.err or ran.out
    assert words in ran.err, ran.err
    last = [line.partition(":")[0] for line in ran.err.splitlines()[-2:]]
    assert last == ["error", "hint"], ran.err


def the_third_is_offered(machine: Machine, world: World, centre: Centre) -> None:
    """The real repository is trusted again."""
    found = machine.call(centre.public, check=True)
    assert (found["outcome"], found["offered"]["digest"]) == ("available", world.digests[2])

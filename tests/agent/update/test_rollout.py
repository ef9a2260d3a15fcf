"""A roll-out to 30 machines, as it goes: some are pinned, some are switched off for a while."""

import math
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler
from typing import ClassVar

import pytest

from agent.bundle.bundle import default_bundle, load_bundle
from agent.update.flow import bucket
from tests.agent.update.fleet import Fleet, Seen, fleet
from tests.agent.update.published import Centre, made_bundle, new_centre, served

MACHINES = {"pilot": [f"p{n:02}" for n in range(6)], "stable": [f"s{n:03}" for n in range(24)]}
BUILT_IN = load_bundle(default_bundle()).digest


class _Counting(SimpleHTTPRequestHandler):
    """Serves files, and keeps what was asked for."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits for the acknowledgement of its headers
    timeout = 0.5  # of a connection on which nothing comes
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@dataclass(frozen=True)
class Offered:
    """What a channel offers, as those who publish think of it."""

    settled: str | None
    candidate: str | None = None
    rollout: int = 0
    withdrawn: str | None = None

    def meant_for(self, secret: bytes) -> str | None:
        """The bundle that a machine with this secret must take."""
        if self.candidate and bucket(secret, self.candidate) < self.rollout:
            return self.candidate
        return self.settled


@dataclass
class Story:
    """The centre, its machines, and what must be in force on each of them."""

    centre: Centre
    fleet: Fleet
    url: str
    must: dict[str, str] = field(
        default_factory=lambda: dict.fromkeys(
            (n for each in MACHINES.values() for n in each), BUILT_IN
        )
    )
    pinned: set[str] = field(default_factory=set)
    had: dict[str, set[str]] = field(default_factory=dict)

    def ask(self, channel: str, offered: Offered, off: Collection[str] = ()) -> list[Seen]:
        """Every machine of the channel that is on asks; each must have what is meant for it."""
        del _Counting.asked[:]
        names = [name for name in MACHINES[channel] if name not in off]
        before = dict(self.must)
        seen = self.fleet.ask(self.url, channel, names)
        for one in seen:
            meant = offered.meant_for(one.secret)
            if one.name not in self.pinned and meant is not None:
                self.must[one.name] = meant
        assert {one.name: one.present for one in seen} == {name: self.must[name] for name in names}
        changed = {name for name in names if self.must[name] != before[name]}
        assert {one.name for one in seen if one.outcome == "activated"} == changed
        new = [n for n in changed if self.must[n] not in self.had.setdefault(n, set())]
        for name in new:
            self.had[name].add(self.must[name])
        fetched = [path for path in _Counting.asked if path.startswith("/targets/")]
        assert len(fetched) == len(new)  # and nobody else fetched a byte of it
        return seen

    def share(self, channel: str, digest: str) -> int:
        return sum(self.must[name] == digest for name in MACHINES[channel])


@pytest.fixture
def story(tmp_path):
    centre = new_centre(tmp_path / "centre")
    (tmp_path / "machines").mkdir()
    with (
        served(centre.public, _Counting) as url,
        fleet(tmp_path / "machines", centre.root) as machines,
    ):
        yield Story(centre, machines, url)


def about(share: float, of: int) -> range:
    """What chance makes of a percentage: six standard deviations around it."""
    middle, spread = share * of / 100, 6 * math.sqrt(of * share * (100 - share)) / 100
    return range(max(1, math.floor(middle - spread)), math.ceil(middle + spread) + 1)


def test_thirty_machines_end_with_the_bundle_that_is_meant_for_them(story, tmp_path) -> None:
    bundles = [made_bundle(tmp_path / f"b{n}", str(n), seed=n) for n in (1, 2, 3)]
    centre, stable = story.centre, MACHINES["stable"]
    long_off, off_at_first, off_at_the_end = set(stable[:3]), set(stable[3:6]), set(stable[6:9])

    # Everybody has the first bundle, but for those that are off for long; some are pinned to it.
    one = centre.add(bundles[0], "pilot")
    centre.add(bundles[0], "stable")
    story.ask("pilot", Offered(one))
    story.ask("stable", Offered(one), long_off)
    story.pinned |= {"p00", *stable[9:11]}
    story.fleet.pin(story.pinned)

    # The second: to a tenth of the pilots, then to all of them; stable hears nothing of it.
    two = centre.add(bundles[1], "pilot", rollout=10)
    story.ask("pilot", Offered(one, two, 10))
    assert story.share("pilot", two) <= max(about(10, 6))
    centre.promote("field@2", "pilot", 100)
    story.ask("pilot", Offered(two))
    assert story.share("pilot", two) == 5
    assert {seen.outcome for seen in story.ask("stable", Offered(one), long_off)} == {
        "up-to-date",
        "pinned",
    }

    # To a quarter, a half, all of stable: whoever is in, stays in.
    centre.promote("field@2", "stable", 25)
    story.ask("stable", Offered(one, two, 25), long_off | off_at_first)
    early = {name for name in stable if story.must[name] == two}
    assert len(early) in about(25, 16)
    late_pins = set(sorted(early - off_at_the_end)[:2])
    story.fleet.pin(late_pins)
    story.pinned |= late_pins
    centre.promote("field@2", "stable", 50)
    story.ask("stable", Offered(one, two, 50), long_off)
    half = {name for name in stable if story.must[name] == two}
    assert early <= half
    assert len(half) in about(50, 19)
    centre.promote("field@2", "stable", 100)
    story.ask("stable", Offered(two), long_off)
    assert story.share("stable", two) == 24 - len(long_off) - 2

    # It is withdrawn: back to the first, from the disk. Two of the pinned ones still have it.
    centre.withdraw("field@2")
    back = Offered(one, withdrawn=two)
    story.ask("pilot", back)
    seen = story.ask("stable", back, long_off | off_at_the_end)
    warned = {each.name for each in seen if "pinned-withdrawn" in each.notes}
    assert warned == late_pins
    assert all(story.must[name] == two for name in off_at_the_end)

    # All are on again. Those off for long never see the second one; the others leave it now.
    outcomes = Counter(each.outcome for each in story.ask("stable", back))
    assert outcomes["activated"] == len(long_off) + len(off_at_the_end)
    assert story.share("pilot", one) == 6
    assert story.share("stable", one) == 24 - len(late_pins)

    # The third one mends it, for everybody who is not pinned.
    three = centre.add(bundles[2], "pilot")
    centre.promote("field@3", "stable", 100)
    story.ask("pilot", Offered(three))
    story.ask("stable", Offered(three))
    assert Counter(story.must.values()) == {three: 30 - 3 - 2, one: 3, two: 2}

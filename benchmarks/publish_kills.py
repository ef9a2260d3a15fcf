"""What is lost when publishing is killed: nothing, after any number of kills.

    python benchmarks/publish_kills.py [--kills 200] [--seed 1]

A real repository, changed by the real `bundles add` and `bundles promote` in turn, each killed
(SIGKILL) at random: half of the kills at any time of its run, half in the instants in which it
writes. After each kill, before anybody repairs anything, machines ask: one that followed all along
and one that is new must agree on the offer from before or the offer from after, with its bytes.
Then the same command runs to its end, and must succeed; no name that was ever served may mean other
bytes.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from update_traffic import next_version

from agent.errors import AgentError
from agent.update.floors import NO_FLOORS, Floors
from agent.update.source import open_source
from agent.update.trust import Trust, refresh
from bundles.repository.check import check_repository
from bundles.repository.making import make_repository
from bundles.repository.passphrases import Passphrases
from bundles.repository.publisher import publisher_at

BUNDLES = str(Path(sys.executable).parent / "bundles")
SAID = {"BUNDLES_PASSPHRASE": "only a benchmark"}
WRITING_S = 0.06  # from its first write to its last, and some more
LIMIT_S = 120.0
UNNAMED = ("timestamp.json", ".new")  # all else has its version or digest in its name


@dataclass
class Machine:
    """A machine of a channel: what it trusts, and what it has seen."""

    cache: Path
    root: bytes
    channel: str
    floors: Floors = NO_FLOORS

    def offer(self, repository: Path) -> str:
        """NAME@VERSION of the settled bundle, whose bytes are fetched and verified; or nothing."""
        trust = Trust(self.root, self.channel, self.cache, self.floors, time.time())
        session = refresh(open_source(str(repository / "public")), trust)
        self.floors = session.trusted.floors
        settled = session.trusted.offers.get("settled")
        if settled is None:
            return ""
        session.download(settled)
        return f"{settled.name}@{settled.version}"


@dataclass
class Campaign:
    """A repository, who follows it, and what was found."""

    work: Path
    chance: random.Random
    found: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.repository = self.work / "repository"
        where = publisher_at(self.repository, datetime.now(UTC), Passphrases(None, SAID))
        make_repository(where, 1, 1)
        self.root = (self.repository / "public/metadata/1.root.json").read_bytes()
        self.followers = {c: self.machine(c) for c in ("pilot", "stable")}
        self.offers = dict.fromkeys(self.followers, "")
        self.seconds = dict.fromkeys(self.followers, 5.0)  # of a whole run
        self.served: dict[str, bytes] = {}

    def machine(self, channel: str) -> Machine:
        """One that knows the first root only."""
        return Machine(Path(tempfile.mkdtemp(dir=self.work)), self.root, channel)

    def publish(self, number: int, kills: int) -> None:
        """A version for pilot, then for stable; each command is killed until it is through."""
        bundle = next_version(self.work, number)
        title = f"default@test-{number}"
        for channel, words in (
            ("pilot", ["add", str(bundle), "--again"]),
            ("stable", ["promote", title, "--to", "stable", "--rollout", "100"]),
        ):
            command = [BUNDLES, *words, "--repo", str(self.repository)]
            for _ in range(kills):
                self.kill(command, channel)
                if self.look(channel, title, "after a kill") == title:
                    break
            self.finish(command, channel)
            self.offers[channel] = self.look(channel, title, "after the command")
            if self.offers[channel] != title:
                self.lost.append(f"{title} is not offered to {channel}")

    def kill(self, command: list[str], channel: str) -> None:
        """Start it and kill it, at any time or while it writes."""
        before = self.touched()
        with _started(command) as process:
            if self.chance.random() < 0.5:
                wait = self.chance.uniform(0, self.seconds[channel])
            else:
                while self.touched() == before and process.poll() is None:
                    time.sleep(0.0002)
                wait = self.chance.uniform(0, WRITING_S)
            end = time.monotonic() + wait
            while time.monotonic() < end and process.poll() is None:
                time.sleep(0.0002)
            process.kill()
        self.found["killed" if process.returncode < 0 else "ended before the kill"] += 1
        if (self.repository / "journal.json").exists():
            self.found["half-written at the kill"] += 1

    def touched(self) -> list[int]:
        """Changes when something is written."""
        places = (self.repository, *(self.repository / "public").rglob("*"))
        return [place.stat().st_mtime_ns for place in places if place.is_dir()]

    def finish(self, command: list[str], channel: str) -> None:
        """The same command again, to its end."""
        began = time.monotonic()
        with _started(command) as process:
            said, _ = process.communicate(timeout=LIMIT_S)
        self.seconds[channel] = time.monotonic() - began
        if process.returncode != 0:
            self.lost.append(f"{' '.join(command[1:3])}: exit {process.returncode}: {said[-300:]}")
        if (self.repository / "journal.json").exists():
            self.lost.append("a journal is left")

    def look(self, channel: str, after: str, when: str) -> str:
        """What machines take now; anything but the offer before and the one after is a loss."""
        try:
            old, new = self.followers[channel], self.machine(channel)
            offer, fresh = old.offer(self.repository), new.offer(self.repository)
        except AgentError as error:
            self.lost.append(f"{when}: {error.message}")
            return ""
        if offer != fresh or offer not in (self.offers[channel], after):
            self.lost.append(f"{when}: {offer!r} and {fresh!r} are offered to {channel}")
        self.found[f"the offer from {'after' if offer == after else 'before'} it, {when}"] += 1
        now = self.named()
        changed = [name for name, content in self.served.items() if now.get(name) != content]
        self.lost += [f"{when}: {name} is gone or has other bytes" for name in changed]
        self.served = now
        return offer

    def named(self) -> dict[str, bytes]:
        """Metadata that a cache may keep for ever."""
        folder = self.repository / "public/metadata"
        return {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.endswith(UNNAMED)}


def _started(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        env={**os.environ, **SAID},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--each", type=int, default=5, help="kills of one command at most")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="publish-kills-") as folder:
        campaign = Campaign(Path(folder), random.Random(options.seed))
        for number in itertools.count():
            campaign.publish(number, options.each)
            if campaign.found["killed"] >= options.kills:
                break
        where = publisher_at(campaign.repository, datetime.now(UTC), Passphrases(None, SAID))
        checked = check_repository(where)
    if not checked["ok"]:
        campaign.lost.append(f"bundles repo check: {checked['problems']}")
    for what, count in sorted(campaign.found.items()):
        print(f"{count:5}  {what}")
    print(f"{len(campaign.lost):5}  lost")
    for each in campaign.lost:
        print(f"       {each}")
    sys.exit(bool(campaign.lost))


if __name__ == "__main__":
    main()

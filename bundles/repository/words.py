"""What the publishing commands say to people: pure functions from their answers to blocks."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agent.terminal.blocks import Block, Table
from agent.terminal.numbers import Count

Answer = Mapping[str, Any]
Words = Callable[[Answer], list[Block]]
_NEXT = "at its next `agent update`"
_UNLESS = "unless it is worse there, was turned down there before, or a person pinned another"


def told_first(words: Words) -> Words:
    """What would be, told before it is done."""

    def told(answer: Answer) -> list[Block]:
        if not answer["changed"]:
            return words(answer)
        return ["Nothing is changed yet. It would be so:", *words(answer)]

    return told


def told_log(answer: Answer) -> list[Block]:
    """Changes, newest first."""
    rows = tuple(
        (
            _minute(x["at"]),
            x["by"],
            x["action"],
            x["bundle"],
            ", ".join(map(_reached, x["channels"])),
            x["reason"],
        )
        for x in answer["changes"]
    )
    table = Table(("when", "by", "what", "bundle", "channel", "reason"), rows)
    lost = Count(answer["unreadable"])
    notes = [f"{lost:line} of the log cannot be read."] if lost else []
    return [table if rows else "Nothing was changed yet.", *notes]


def _reached(channel: Answer) -> str:
    name, rollout = channel["channel"], channel["rollout"]
    return f"{name} ({rollout} %)" if rollout else str(name)


def told_init(answer: Answer) -> list[Block]:
    """Where everything is, and what to do at once."""
    directory = answer["repository"]
    beside = answer["keys"] == f"{directory}/keys"
    more = "" if beside else f" --keys {shlex.quote(answer['keys'])}"
    keys = sorted(key for role in answer["roles"] for key in role["keys"] if key != "online.pem")
    return [
        f"The repository is in {directory}. Serve {directory}/public, and nothing else of it.",
        f"Machines trust {answer['trusted_root']}: put it on each as "
        f"/etc/calibration-agent/root.json. Its SHA-256 is {answer['trusted_root_sha256']}.",
        f"In {answer['keys']} are {', '.join(dict.fromkeys(keys))}. Move each to where only those "
        f"who use it get at it, the root keys to different places: {answer['threshold']} of the "
        f"{answer['root_keys']} together replace any key, and without them nobody can.",
        "Run `bundles timestamp` every day: its signature holds for a week.",
        f"Next: `bundles add BUNDLE --channel pilot --repo {directory}{more}`.",
        *_standing(answer),
    ]


def told_offer(answer: Answer) -> list[Block]:
    """Which machines take what, and when (``add``, ``promote``)."""
    (channel,) = answer["channels"]
    title = _title(answer["bundle"])
    if not answer["changed"]:
        return [f"{channel['channel']} offers {title} just so already; nothing changed.",
                *_notes(answer)]  # fmt: skip
    candidate = channel["candidate"]
    if candidate and candidate["digest"] == answer["bundle"]["digest"]:
        rollout = candidate["rollout"]
        others = _title(channel["settled"]) if channel["settled"] else "what they have"
        words = (
            f"{title} is the candidate of {channel['channel']}: about {rollout} % of its machines, "
            f"chosen at random, are offered it. Each takes it {_NEXT}, {_UNLESS}. The others stay "
            f"with {others}."
        )
    else:
        words = (
            f"{title} is settled on {channel['channel']}: all of its machines are offered it. Each "
            f"takes it {_NEXT}, {_UNLESS}."
        )
    return [words, *_next_offer(answer, channel), *_notes(answer)]


def _next_offer(answer: Answer, channel: Answer) -> list[Block]:
    """The command that brings the bundle to more machines, where there are more."""
    name, candidate = _title(answer["bundle"]), channel["candidate"]
    to, rollout = channel["channel"], 100
    if not (candidate and candidate["digest"] == answer["bundle"]["digest"]):
        if to != "pilot":
            return []
        to, rollout = "stable", 10
    command = f"bundles promote {name} --to {to} --rollout {rollout} --repo {answer['repository']}"
    return [f"When the machines of {channel['channel']} do well: `{command}`."]


def told_withdraw(answer: Answer) -> list[Block]:
    """Where machines go back to."""
    blocks: list[Block] = []
    title = _title(answer["bundle"])
    for channel in answer["channels"]:
        back = channel["settled"]
        to = _title(back) if back else "the bundle it had before"
        if not answer["changed"]:
            blocks.append(
                f"{title} is withdrawn from {channel['channel']} already; nothing changed."
            )
            continue
        blocks.append(
            f"{title} is withdrawn from {channel['channel']}: each machine that runs it goes back "
            f"to {to} {_NEXT}. Machines pinned to it stay, with a warning."
        )
    return [*blocks, *_notes(answer)]


def told_timestamp(answer: Answer) -> list[Block]:
    """What was signed anew, and how long everything holds."""
    return [f"Signed anew: {' and '.join(answer['renewed'])}.", *_standing(answer)]


def told_rotation(answer: Answer) -> list[Block]:
    """Which key took whose place."""
    return [
        f"{answer['new']} is the new {answer['role']} key in place of {answer['old']}. Machines "
        "follow by themselves: each trusts the old key no more after its next `agent update`.",
        f"Upload the repository, then destroy {answer['old']} and its copies.",
        *_standing(answer),
    ]


def told_renewal(answer: Answer) -> list[Block]:
    """The role, and how long everything holds."""
    return [f"{answer['role']} is signed anew.", *_standing(answer)]


def told_export(answer: Answer) -> list[Block]:
    """What is in the copy, and until when it can be used."""
    size = f"{answer['files']} files, {answer['bytes'] / 2**20:.1f} MiB"
    blocks: list[Block] = [
        f"{answer['directory']} holds what machines need ({size}). Its signatures hold until "
        f"{_minute(answer['holds_until'])}.",
    ]
    if answer["air_gap"]:
        blocks.append(
            "On a machine: `agent update --from DIRECTORY`. Publish the repository now, as after "
            "every change: machines that ask it can then not be held on the state of this copy."
        )
    return [*blocks, *_notes(answer)]


def told_status(answer: Answer) -> list[Block]:
    """What each channel offers, and how long signatures hold."""
    return [*_channels(answer), *_standing(answer)]


def told_check(answer: Answer) -> list[Block]:
    """What machines would refuse; else that they would not."""
    if answer["ok"]:
        verdict = f"{answer['directory']} is in order: a new machine takes what it offers."
    else:
        verdict = f"{answer['directory']} is NOT in order: machines refuse it."
    problems = [f"Problem: {problem['message']}" for problem in answer["problems"]]
    return [verdict, *problems, *_channels(answer), *_standing(answer)]


def told_requests(answer: Answer) -> list[Block]:
    """What a server has sent."""
    rows = tuple((x["file"], str(x["status"]), str(x["requests"])) for x in answer["by_file"])
    total = f"{Count(answer['requests']):request}, {Count(answer['bytes']):byte} sent."
    return [Table(("file", "status", "requests"), rows), total] if rows else [total]


def _channels(answer: Answer) -> list[Block]:
    rows = []
    for channel in answer["channels"]:
        name, settled, candidate = channel["channel"], channel["settled"], channel["candidate"]
        offered = [(settled, "all machines")] if settled else []
        if candidate:
            offered.append((candidate, f"{candidate['rollout']} % of machines"))
        for bundle, machines in offered:
            size = f"{bundle['length'] / 2**20:.2f} MiB"
            rows.append((name, _title(bundle), machines, bundle["digest"][:16], size))
        if not offered:
            rows.append((name, "nothing", "", "", ""))
    if not rows:
        return []
    return [Table(("channel", "bundle", "for", "digest", "size"), tuple(rows))]


def _standing(answer: Answer) -> list[Block]:
    rows = tuple(
        (role["role"], str(role["version"]), _signers(role), _minute(role["expires"]),
         f"{role['days_left']:.0f}")
        for role in answer["roles"]
    )  # fmt: skip
    table = Table(("role", "version", "signed by", "holds until", "days left"), rows)
    return [table, *_notes(answer)] if rows else _notes(answer)


def _signers(role: Answer) -> str:
    keys: Sequence[str] = role["keys"]
    return f"{role['threshold']} of {', '.join(keys)}" if len(keys) > 1 else ", ".join(keys)


def _notes(answer: Answer) -> list[Block]:
    return [f"Note: {note['message']}" for note in answer["notes"]]


def _title(bundle: Answer) -> str:
    return f"{bundle['name']}@{bundle['version']}"


def _minute(time: str) -> str:
    """``2026-11-24 02:30 UTC`` of ``2026-11-24T02:30:00Z``."""
    return f"{time[:10]} {time[11:16]} UTC"

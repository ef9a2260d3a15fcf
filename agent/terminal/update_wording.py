"""What ``agent update`` and ``agent bundle`` say to people."""

from __future__ import annotations

from agent.terminal.blocks import Answer, Block, Table
from agent.terminal.numbers import DASH, Count, factor, percent

_OUTCOMES = {
    "activated": "{after} is in force now (before: {before}).",
    "went-back": "{before} was withdrawn by the centre. {after} is in force again.",
    "withdrawn": "{before} was withdrawn by the centre. `agent update` goes back from it.",
    "available": "{offered} is offered; {before} is in force. `agent update` takes it.",
    "up-to-date": "Nothing to do: {after} is what the centre offers.",
    "not-offered": "Nothing to do: {channel} offers nothing for this machine. {after} stays.",
    "pinned": "Nothing to do: this machine is pinned to {after}.",
    "waiting": "{after} stays in force for now: {offered} waits until it can be compared.",
    "declined": "{after} stays in force: {offered} was not taken.",
}
_SHORT = 12


def update(answer: Answer) -> list[Block]:
    """What was done, why, and until when the signatures hold."""
    names = {key: _name(answer[key]) for key in ("before", "after", "offered")}
    words = _OUTCOMES[answer["outcome"]].format(**names, channel=answer["channel"])
    blocks: list[Block] = [words]
    if (verdict := answer["verdict"]) is not None:
        blocks += _verdict(verdict, declined=answer["outcome"] == "declined")
    blocks += [f"Note: {note['message']}." for note in answer["notes"]]
    blocks.append(
        f"From {answer['repository']}, channel {answer['channel']}; "
        f"its signatures hold until {answer['signatures_hold_until']}."
    )
    return blocks


def _verdict(verdict: Answer, *, declined: bool) -> list[Block]:
    rows = (
        ("speed-up error, mean over kernels", factor(verdict["old"]), factor(verdict["new"])),
        (
            "seconds error, mean over kernels",
            factor(verdict["old_seconds"]),
            factor(verdict["new_seconds"]),
        ),
        (
            "versions in the right order",
            percent(verdict.get("old_order")),
            percent(verdict.get("new_order")),
        ),
    )
    kernels = Count(verdict["kernels"])
    changes = [_change("speed-ups", verdict["difference"], verdict["standard_error"], kernels)]
    if verdict["seconds_difference"] is not None:
        found = verdict["seconds_difference"], verdict["seconds_standard_error"]
        changes.append(_change("times", *found, kernels))
    line = (
        f"Judged on {kernels:kernel} timed here, each predicted by a model that had not seen it. "
        f"{' '.join(changes)}"
    )
    blocks: list[Block] = [Table(("on this machine", "before", "new"), rows), line]
    if declined:
        blocks.append("It is not asked for again. `agent update --force` takes it all the same.")
    return blocks


def _change(what: str, difference: float, chance: float, kernels: Count) -> str:
    if abs(difference) <= chance:
        return f"For {what} the difference is too small to tell with {kernels:kernel}."
    better = "smaller" if difference < 0 else "larger"
    return f"Errors of {what} are {better} with it, by a factor of {factor(abs(difference))}."


def bundles(answer: Answer) -> list[Block]:
    """All bundles that are or were here."""
    rows = tuple(
        (
            ">" if row["in_force"] else "",
            row["name"],
            row["version"],
            row["digest"][:_SHORT],
            (row["since"] or DASH)[:10],
            _story(row),
        )
        for row in answer["bundles"]
    )
    blocks: list[Block] = [Table(("", "name", "version", "digest", "taken", ""), rows)]
    if answer["pinned"]:
        blocks.append("Pinned: updates leave the bundle in force alone (`agent bundle unpin`).")
    if answer["last_checked"]:
        asked = answer["last_checked"].replace("T", " ")[:16]
        blocks.append(f"A repository was last asked and believed on {asked} UTC.")
    return blocks + [f"Note: {note['message']}." for note in answer["notes"]]


def _story(row: Answer) -> str:
    words = ["came with the agent"] if row["built_in"] else []
    if row["came_by"] and not (row["built_in"] and row["came_by"] == "update"):
        words.append(f"by {row['came_by']}")
    if row["declined"]:
        words.append(f"left: {row['declined']}")
    if row["damaged"]:
        words.append("damaged")
    elif not row["on_disk"]:
        words.append("no longer here")
    return "; ".join(words)


def shown_bundle(answer: Answer) -> list[Block]:
    """One bundle with its provenance."""
    from agent.bundle.describe import description_text as text

    return list(text(answer).split("\n"))


def went_back(answer: Answer) -> list[Block]:
    """After a rollback."""
    before, after = _name(answer["before"]), _name(answer["after"])
    return [
        f"{after} is in force again; {before} was left.",
        f"Updates do not bring {before} back; `agent update --force` does.",
    ]


def pinned(answer: Answer) -> list[Block]:
    """After pinning and unpinning."""
    name = _name(answer["bundle"])
    if answer["pinned"]:
        return [f"Pinned to {name}: updates leave it alone until `agent bundle unpin`."]
    return [f"Not pinned: `agent update` may replace {name}."]


def _name(bundle: Answer | None) -> str:
    return "nothing" if bundle is None else f"{bundle['name']} {bundle['version']}"

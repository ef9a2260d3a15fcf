"""What ``agent report`` says to people."""

from __future__ import annotations

from agent.system.documents import page_path
from agent.terminal.blocks import Answer, Block
from agent.terminal.numbers import Count

_OUTCOMES = {
    "off": "Reporting is off ({by}). Nothing was sent.",
    "nothing": "Nothing to send: what happened here was told, or nothing happened yet.",
    "nowhere": "Not sent: no centre is configured (report_to). `agent report --export FILE` writes "
    "a file to be carried there.",
    "waiting": "Not sent: the last try failed; the next one is not before {not_before}. "
    "`agent report --now` tries at once.",
    "sent": "{handed_over:report} sent to {to}.",
    "exported": "{handed_over:report} written.",
    "refused": "Nothing was accepted by {to}.",
    "unreachable": "Not sent. The next try is not before {not_before}.",
    "denied": "Not sent. The next try is not before {not_before}.",
    "later": "Not sent. The next try is not before {not_before}.",
    "enabled": "Reporting is on ({by}). `agent report disable` switches it off.",
    "disabled": "Reporting is off ({by}).",
    "unchanged": "Nothing was changed: reporting is {on} ({by}).",
}
_BY = {
    "site": "by the configuration of this site",
    "machine": "decided on this machine",
    "nobody": "nobody has switched it on: `agent report enable`",
}


def report(answer: Answer) -> list[Block]:
    """What was done, why, and how many reports wait."""
    on = "on" if answer["reporting"] else "off"
    words = {**answer, "by": _BY[answer["decided_by"]], "on": on}
    words["handed_over"] = Count(answer["handed_over"])
    blocks: list[Block] = [_OUTCOMES[answer["outcome"]].format(**words)]
    blocks += [f"Note: {note['message']}" for note in answer["notes"]]
    if answer["dropped"]:
        blocks.append(f"Dropped without being sent: {Count(answer['dropped']):report}.")
    if answer["waiting"] and answer["outcome"] not in ("off", "unchanged"):
        blocks.append(f"Waiting here: {Count(answer['waiting']):report}.")
    return blocks


def waiting_blocks(answer: Answer) -> list[str]:
    """About the bytes that are shown: where they would go, and when."""
    reports, last = answer["reports"], answer["last"]
    if reports:
        would = "will be sent" if answer["reporting"] else "would be sent"
        to = f"to {answer['to']}" if answer["to"] else "(no centre is configured: report_to)"
        state = "on" if answer["reporting"] else f"off, {_BY[answer['decided_by']]}"
        count = f"{Count(len(reports)):report}, one a line, byte for byte as {would} {to}."
        named = [_NAMED.format(label=answer["label"])] if answer.get("label") else []
        return [f"{count} Reporting is {state}.", *named]
    if last:
        return [f"Nothing waits. This was handed over last, {last['at']}, to {last['to']}:"]
    return ["Nothing to show: there is no calibration to tell of. Run `agent calibrate` first."]


_NAMED = (
    "It names this machine: the label {label} (report_label) is in every report, and the staff of "
    "the centre see the machine by it."
)

ASKED = (
    "A report tells the centre how good its bundle is on this machine: rounded accuracy and codes "
    "from closed lists. It holds no timing, no identity and, unless `report_label` gives it one, "
    "no name; the key that it is counted under is another one every week. "
    + page_path("docs/reference/report.md")
    + " explains every field.",
    "Later reports have these fields and no others; one is sent after a new calibration, or when "
    "an offered bundle was worse here: at most one a bundle and week.",
)

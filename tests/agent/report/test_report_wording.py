"""What is said of bytes that are shown: nothing was sent that was not."""

import pytest

from agent.terminal.report_wording import waiting_blocks

LAST = {"at": "2026-11-25T10:00:00Z", "to": "https://fleet.example.org", "report": "{}"}


def said(**other):
    answer = {
        "reports": ["{}"],
        "last": None,
        "reporting": False,
        "decided_by": "nobody",
        "to": "https://fleet.example.org",
    }
    (line,) = waiting_blocks(answer | other)
    return line


@pytest.mark.parametrize("to", [None, "https://fleet.example.org"])
@pytest.mark.parametrize("on", [False, True])
def test_what_waits_was_not_sent(on, to):
    line = said(reporting=on, decided_by="machine" if on else "nobody", to=to)
    assert ("will be sent" if on else "would be sent") in line
    assert (f"to {to}" if to else "no centre is configured") in line
    assert ("Reporting is on." if on else "Reporting is off, nobody") in line
    assert "as sent" not in line
    assert "nowhere" not in line


def test_what_was_handed_over_says_when_and_where():
    line = said(reports=[], last=LAST)
    assert line.startswith("Nothing waits.")
    assert LAST["at"] in line
    assert LAST["to"] in line


def test_nothing_to_show_says_what_to_do():
    assert "agent calibrate" in said(reports=[])

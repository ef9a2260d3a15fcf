"""What the fleet's commands say to people: pure functions from answers to blocks."""

from __future__ import annotations

from datetime import UTC, datetime

from agent.terminal.blocks import Answer, Block, Table
from agent.terminal.numbers import Count
from bundles.fleet.counting.weeks import week_text


def told_import(answer: Answer) -> list[Block]:
    """What became of a file's reports."""
    blocks: list[Block] = [
        f"{answer['file']}: {Count(answer['new']):new report}, {answer['known']} counted before, "
        f"{answer['refused']} refused."
    ]
    if answer["reasons"]:
        rows = tuple((str(r["line"]), r["code"], r["why"]) for r in answer["reasons"])
        blocks.append(Table(("line", "refused", "why"), rows))
    return blocks


def told_release(answer: Answer) -> list[Block]:
    """How much is newly shown."""
    waiting, threshold = answer["waiting"], answer["threshold"]
    words = [f"{Count(answer['machines']):report} released."]
    if waiting:
        words.append(
            f"{Count(waiting):more report} counted and not shown yet: of each group that is alike "
            f"in week, bundle, channel, architecture and outcome, only whole lots of {threshold}."
        )
    return list(words)


def told_token(answer: Answer) -> list[Block]:
    """The token, for the only time, and nothing else: it may go into a file."""
    return [answer["token"]]


def token_use(answer: Answer) -> str:
    """What to do with it."""
    if answer["kind"] == "staff":
        use = "Give it to `bundles promote --fleet-token-file FILE`, or send it as a bearer token."
    else:
        use = (
            "On its machines: put it in a file (root:calibration-agent, mode 0640), and name that "
            "in report_token_file."
        )
    return f"It is not shown again. {use}"


def told_reopened(answer: Answer) -> list[Block]:
    """What is open again, and what that costs."""
    return [
        f"Weeks after {answer['closed']} are open again (they were closed up to "
        f"{answer['before']}).",
        "Who sent reports of these weeks is forgotten: one that was counted, and comes again, "
        "counts twice. Do not import files again that were imported before.",
    ]


def told_tokens(answer: Answer) -> list[Block]:
    """All tokens."""
    if not answer["tokens"]:
        return ["No tokens yet: bundles fleet token add NAME"]
    rows = tuple(
        (t["name"], t["kind"], _day(t["created_at"]), f"revoked {_day(t['revoked_at'])}"
         if t["revoked_at"] else "in use", week_text(t["heard_week"]) if t["heard_week"] else "")
        for t in answer["tokens"]
    )  # fmt: skip
    return [Table(("name", "kind", "made", "state", "last report"), rows)]


def told_users(answer: Answer) -> list[Block]:
    """Everybody who signs in with a password."""
    if not answer["users"]:
        return ["Nobody signs in with a password yet: bundles fleet user add NAME"]
    return [Table(("name",), tuple((name,) for name in answer["users"]))]


def told_revoked(answer: Answer) -> list[Block]:
    """What a revocation does."""
    return [f"The token {answer['name']} is refused from now on. Its machines keep their reports."]


def told_user(answer: Answer) -> list[Block]:
    """Who may sign in."""
    return [f"{answer['name']} can sign in."]


def told_no_user(answer: Answer) -> list[Block]:
    """Who may not any more."""
    return [f"{answer['name']} cannot sign in any more."]


def _day(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"

"""What ``agent predict``, ``rank`` and ``measure`` say: the data of ``--json`` as words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agent.calibration.calibration import CalibrationWarning
from agent.clock import duration
from agent.state import typed
from agent.terminal.blocks import Answer, Block, Interval, Table, Verbatim
from agent.terminal.calibration_wording import warning_lines
from agent.terminal.numbers import DASH, Count, decimal, difference, execution_time

_STATES = {
    "shared": ", as it was: its core was always shared",
    "partly-shared": ", as it was: some of its cores were always shared",
    "inferred": ", undisturbed time inferred",
}

CAUSES: Mapping[str, str] = {
    "memory": "memory traffic and strides",
    "vectorization": "vectorization",
    "parallel": "parallel work and its cost",
    "registers": "reuse in registers",
    "loops": "loop overhead and trip counts",
    "compiler": "what the compiler does by itself",
    "rest": "the rest",
}


def prediction_blocks(answer: Answer) -> list[Block]:
    """One schedule, then what the prediction rests on."""
    names = ("seconds", "seconds_low", "seconds_high")
    seconds, low, high = (execution_time(answer[name]) for name in names)
    speedup, least, most = map(decimal, speedup_shown(answer))
    one = "written" if answer["own"] else "the loops as the agent writes them"
    return [
        f"{answer['schedule']}: {speedup} times as fast as {one} "
        f"(80 % interval: {least} to {most}).",
        f"{seconds} an execution (80 % interval: {low} to {high}).",
        *_rests_on(answer),
        *_notes(answer),
    ]


def _rests_on(answer: Answer) -> list[str]:
    """What was timed for the prediction."""
    own = [_as_written(answer)] if answer["own"] else []
    timed = answer["as_written"]
    if timed is None:
        return own
    when = f", timed {timed['timed_at']}" if timed["kept"] else ""
    seconds = execution_time(timed["seconds"])
    return [*own, f"It rests on {seconds} an execution as the agent writes it{when}."]


def ranking_blocks(answer: Answer) -> list[Block]:
    """Candidates, best first."""
    shown = [speedup_shown(r) for r in answer["ranking"]]
    rows = tuple(
        (
            str(place),
            decimal(speedup),
            _between(low, high),
            execution_time(r["seconds"]),
            r["schedule"],
        )
        for place, (r, (speedup, low, high)) in enumerate(
            zip(answer["ranking"], shown, strict=True), 1
        )
    )
    drawn = tuple(map(_drawn, shown))
    return [
        Table(("", "speed-up", "80 % interval", "seconds", "schedule"), rows, drawn),
        *two_causes(answer["causes"]),
        *_alike(answer["ranking"]),
        f"{answer['candidates']} legal schedules ranked in {duration(answer['elapsed_s'])}. "
        "Check the first ones with `agent measure`.",
        *_rests_on(answer),
        *_notes(answer),
    ]


def _alike(ranking: Sequence[Answer]) -> list[str]:
    """How many of those shown may as well be the fastest."""
    tied = sum(r["tied"] for r in ranking) - 1
    if tied < 1:
        return []
    are = "1 other is" if tied == 1 else f"{tied} others are"
    return [f"By prediction alone {are} not to be told from the first: time them too."]


def tuning_blocks(answer: Answer) -> list[Block]:
    """Who has won, against whom, and why the search ended."""
    finalists = sorted(answer["finalists"], key=lambda m: -(m["speedup"] or 0))
    tried = f"{len(answer['tried'])} schedules timed, {answer['looked_at']} looked at"
    return [
        _as_written(answer),
        *([_timed_table(finalists)] if finalists else []),
        *_promised(finalists),
        *_tuned(answer),
        f"{tried} in {duration(answer['elapsed_s'])}: {_STOPPED[answer['stopped']]}.",
        *(f"Note: {words}." for words in answer["notes"]),
    ]


_STOPPED = {
    "budget": "the time for it was over",
    "no-gain": "no gain that could be told from noise was to be expected any more",
    "exhausted": "there are no other schedules",
    "interrupted": "it was interrupted",
    "failed": "timing failed",
}


def _promised(finalists: Sequence[Answer]) -> list[str]:
    """What the table says of versions whose threads wait for each other."""
    if not any("parallelize" in m["schedule"] and m["speedup"] for m in finalists):
        return []
    return [
        "What is said of parallel versions holds while nobody else uses the CPUs; where others "
        "work they gain less."
    ]


def _tuned(answer: Answer) -> list[str]:
    winner = answer["winner"]
    if winner is None:
        return ["Nothing is shown to be faster than the program as written: it stays as it is."]
    best = "Fastest" if winner["schedule"] in answer["tied"] else "Fastest of the rest"
    lines = [f"{best}: {winner['schedule']}."]
    if len(answer["tied"]) > 1 and winner["schedule"] == answer["tied"][0]:
        lines = [
            f"{len(answer['tied'])} of them cannot be told apart; the simplest is the winner: "
            f"{winner['schedule']}."
        ]
    if own := answer["function"]:
        before, after = (execution_time(own[f"seconds_{at}"]) for at in ("before", "after"))
        lines.append(
            f"The function itself: {decimal(own['speedup'])} times as fast (80 % interval: "
            f"{decimal(own['low'])} to {decimal(own['high'])}), {before} before, {after} with it."
        )
        promised = winner["own_low"]
        if promised is not None and own["high"] < promised:
            lines.append("That is less than the table says, and it is what you get as things are.")
    if not answer["confirmed"]:
        lines.append("It was not timed again at the end: the figures may flatter it.")
    if answer["out"] is not None:
        lines += [f"Wrote {answer['out']}.", *emission_checks(answer)]
    return lines


def plain_blocks(answer: Answer) -> list[Block]:
    """A schedule a line, for pipes."""
    return [Verbatim("".join(f"{r['schedule']}\n" for r in answer["ranking"]))]


def emission_blocks(answer: Answer) -> list[Block]:
    """Where the file went and what was checked; the file itself where it went nowhere."""
    if answer["out"] is None:
        return [Verbatim(answer["text"])]
    return [f"Wrote {answer['out']}.", *emission_checks(answer)]


def difference_blocks(answer: Answer) -> list[Block]:
    """What changes in the file."""
    return [Verbatim(answer["diff"])]


def emission_checks(answer: Answer) -> list[str]:
    """What was checked of a file that was written, and what was not."""
    check = answer["check"]
    lines = []
    if check["runs"]:
        sizes = " and ".join(
            ", ".join(f"{name} = {value}" for name, value in each.items()) or "those in the text"
            for each in check["sizes"]
        )
        watched = ", under AddressSanitizer and UBSan" if check["sanitized"] else ""
        runs = Count(check["runs"])
        lines.append(f"It does what the function as written does in {runs:run}{watched}: {sizes}.")
    lines += [f"Your tests pass with it: {check['tests']}."] if check["tests"] else []
    return [*lines, *(f"Not checked: {why}." for why in check["unchecked"])]


def two_causes(causes: Sequence[Answer]) -> list[Block]:
    """The line under the winner of a ranking."""
    if not causes:
        return []
    told = ", ".join(f"{cause_factor(c)} {CAUSES[c['cause']]}" for c in causes[:2])
    return [f"The first, mostly: {told} (`agent explain` says more)."]


def cause_factor(cause: Answer) -> str:
    """What a cause multiplies the speed by."""
    return f"x {decimal(cause['factor'])}"


def measurement_blocks(answer: Answer) -> list[Block]:
    """What was measured, in the order asked."""
    blocks: list[Block] = [
        _as_written(answer),
        _timed_table(answer["measurements"]),
        _winner(answer["own_wins"] if answer["own"] else answer["wins"]),
    ]
    if floor := answer["noise_floor"]:
        twice = difference(floor["label_median"])
        blocks.append(f"Within this measurement the program as written differs by {twice}.")
    told = (typed.from_json(CalibrationWarning, item) for item in answer["warnings"])
    notes = (f"Note: {words}." for words in answer["notes"])
    return [*blocks, *warning_lines(tuple(told), "measure"), *notes]


Shown = tuple[float | None, float | None, float | None]
_TIMED = ("speed-up", "80 % interval", "seconds", "outcome", "schedule")


def _timed_table(timed: Sequence[Answer]) -> Table:
    """Versions that were timed, against the function where that was timed."""
    shown = [speedup_shown(m) for m in timed]
    rows = tuple(_timed_row(m, *s) for m, s in zip(timed, shown, strict=True))
    return Table(_TIMED, rows, tuple(map(_drawn, shown)))


def _drawn(shown: Shown) -> Interval | None:
    speedup, low, high = shown
    return None if speedup is None or low is None or high is None else Interval(low, speedup, high)


def speedup_shown(timed: Answer) -> Shown:
    """Speed-up and its interval, over the person's function where that was timed."""
    over = "own_" if timed["own_speedup"] is not None else ""
    return timed[f"{over}speedup"], timed[f"{over}low"], timed[f"{over}high"]


def _timed_row(
    m: Answer, speedup: float | None, low: float | None, high: float | None
) -> tuple[str, ...]:
    seconds = execution_time(m["seconds"])
    return decimal(speedup), _between(low, high), seconds, _outcome(m), m["schedule"]


def _as_written(answer: Answer) -> str:
    """What "1.0 x" is."""
    name, own = answer["program"]["name"], answer["own"]
    if own is None:
        return f"{name} as written: {execution_time(answer['base']['seconds'])}."
    return (
        f"{name} as written: {execution_time(own['seconds_before'])} a call. As the agent writes "
        f"it, with its sizes as constants: {decimal(own['speedup'])} times as fast (80 % interval: "
        f"{decimal(own['low'])} to {decimal(own['high'])})."
    )


def _outcome(measured: Answer) -> str:
    """How it ended, and where its speed-up is not one of cores of its own."""
    if measured["detail"]:
        return f"{measured['outcome']}: {measured['detail']}"
    state = "inferred" if measured.get("inferred") else measured.get("sharing", "")
    return f"{measured['outcome']}{_STATES.get(state, '')}"


def _winner(schedule: str | None) -> str:
    if schedule is None:
        return "None of them is shown to be faster than the program as written."
    return f"Fastest, and faster than as written another time too: {schedule}."


def _notes(answer: Answer) -> list[Block]:
    return [f"Note: {note['message']}." for note in answer["notes"]]


def _between(low: float | None, high: float | None) -> str:
    return DASH if low is None else f"{decimal(low)} to {decimal(high)}"

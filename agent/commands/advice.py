"""`agent predict`, `rank`, `measure`: advice on a C function of the user's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from agent.commands.common import (
    CompilerOptions,
    Json,
    ModelOptions,
    Report,
    become_owner,
    own_directory,
    print_answer,
)
from agent.errors import InputError
from agent.terminal import console
from agent.terminal.blocks import ExportFormat
from agent.terminal.options import with_records

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.advise.advise import Request
    from agent.advise.own_tests import OwnTests
    from agent.measure.runner import OpenRunner
    from agent.settings.config import Config

COMMANDS: Final = typer.Typer()
LONGEST_TESTS_S: Final = 86_400.0
COMPILE_SHARE: Final = 1 / 6  # of a search, for a version that the compiler takes very long for
File = Annotated[Path, typer.Argument(metavar="FILE.c", help="C file with the loops.")]
Function = Annotated[
    str | None,
    typer.Option("--function", metavar="F", help="The function, where several have loops."),
]
Sizes = Annotated[
    list[str] | None,
    typer.Option("--size", metavar="NAME=N", help="Value of a size parameter (repeat)."),
]
OtherSizes = Annotated[
    int | None,
    typer.Option(min=1, max=1 << 24, metavar="N", help="Value of every size not given."),
]
Nest = Annotated[
    int | None,
    typer.Option("--nest", min=1, metavar="N", help="Which loop nest, where there are several."),
]
Cflags = Annotated[
    str | None,
    typer.Option("--cflags", help="Flags of your build, e.g. '-I include -D SMALL -O2'."),
]


Run = Annotated[
    bool,
    typer.Option("--run/--no-run", help="Time the function as it is first, in a moment."),
]


Export = Annotated[
    ExportFormat | None,
    typer.Option("--export", help="Print the table alone, for a file: csv or md (Markdown)."),
]


@dataclass(frozen=True)
class ProgramOptions:
    """What is meant of a file, and how it is read."""

    size: Sizes = None
    other_sizes: OtherSizes = None
    function: Function = None
    nest: Nest = None
    cflags: Cflags = None


@dataclass(frozen=True)
class RankOptions:
    """The same, and how many schedules."""

    size: Sizes = None
    other_sizes: OtherSizes = None
    candidates: Annotated[
        int, typer.Option(min=1, max=10_000, metavar="N", help="How many schedules to look at.")
    ] = 200
    top: Annotated[
        int, typer.Option(min=0, max=10_000, metavar="K", help="How many to show (0: all).")
    ] = 10
    plain: Annotated[bool, typer.Option("--plain", help="Print a schedule a line, no more.")] = (
        False
    )
    export: Export = None
    report: Report = None
    run: Run = True
    function: Function = None
    nest: Nest = None
    cflags: Cflags = None


@dataclass(frozen=True)
class ScanOptions:
    """How files are read, and how closely each nest is looked at."""

    size: Sizes = None
    other_sizes: OtherSizes = None
    candidates: Annotated[
        int, typer.Option(min=1, max=1000, metavar="N", help="Schedules to look at in each nest.")
    ] = 24
    cflags: Cflags = None


MOST_LETTERS = 1 << 20  # of schedules that are read
SCHEDULE_HELP = "E.g. 'tile i 32 j 32; parallelize i_t; vectorize j'; 'original': as written."


@COMMANDS.command(
    epilog="Example: agent predict gemm.c --size ni=512 --size nj=512 --size nk=512 "
    "--schedule 'interchange j k; vectorize j'"
)
@with_records
def predict(
    file: File,
    schedule: Annotated[str, typer.Option(metavar="S", help=SCHEDULE_HELP)],
    program: ProgramOptions,
    model: ModelOptions,
    *,
    run: Run = True,
    as_json: Json = False,
) -> None:
    """Predict speed-up and seconds of one schedule."""
    from agent.advise.advise import predict as predicted
    from agent.terminal.advice_wording import prediction_blocks

    config, request = become_owner(model.settings()), _request(file, program)
    found = predicted(config, request, schedule, _anchor_runner(request, run))
    print_answer(found.answer, prediction_blocks, as_json)


@dataclass(frozen=True)
class ExplainOptions:
    """Which schedule, and where the answer goes."""

    schedule: Annotated[str, typer.Option(metavar="S", help=SCHEDULE_HELP)]
    run: Run = True
    report: Report = None


@COMMANDS.command(
    epilog="Example: agent explain gemm.c --size ni=512 --size nj=512 --size nk=512 "
    "--schedule 'interchange j k; vectorize j'"
)
@with_records
def explain(
    file: File,
    options: ExplainOptions,
    program: ProgramOptions,
    model: ModelOptions,
    as_json: Json = False,
) -> None:
    """Say why a schedule is predicted to be faster or slower."""
    from agent.advise.explain import explain as explained
    from agent.page.advice import render_explanation
    from agent.terminal.explain_wording import explanation_blocks

    config = become_owner(model.settings())
    page = _page(options.report, config)
    request = _request(file, program)
    opened = _anchor_runner(request, options.run)
    found = explained(config, request, options.schedule, opened, with_map=page is not None)
    print_answer(found, explanation_blocks, as_json)
    if page is not None:
        page(render_explanation(found, str(file)))


@COMMANDS.command(epilog="Example: agent scan src/ --other-sizes 512")
@with_records
def scan(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="C files, directories, or a compile_commands.json."),
    ],
    options: ScanOptions,
    model: ModelOptions,
    as_json: Json = False,
) -> None:
    """Find every loop nest, and what it promises."""
    from agent.advise.scan import ScanRequest
    from agent.advise.scan import scan as run
    from agent.advise.sources import sources
    from agent.settings.values import parse_sizes
    from agent.terminal.scan_wording import scan_blocks

    found = sources(paths, _flags(options.cflags) or ())
    sizes = parse_sizes(options.size or ())
    request = ScanRequest(found, sizes, options.other_sizes, options.candidates)
    with console.progress() as tell:
        answered = run(become_owner(model.settings()), request, tell)
    print_answer(answered, scan_blocks, as_json)


@COMMANDS.command(
    epilog="Example: agent rank gemm.c --size ni=512 --size nj=512 --size nk=512 --top 5"
)
@with_records
def rank(
    file: File,
    options: RankOptions,
    model: ModelOptions,
    as_json: Json = False,
) -> None:
    """Predict many legal schedules, best first."""
    from agent.advise.advise import rank as ranked
    from agent.page.advice import render_ranking
    from agent.terminal.advice_wording import plain_blocks, ranking_blocks
    from agent.terminal.export import exported_ranking

    _refuse_two_forms(as_json, options.plain, options.export)
    config, top = become_owner(model.settings()), options.top or None
    page = _page(options.report, config)
    request, wanted = _request(file, options), options.candidates
    opened = _anchor_runner(request, options.run)
    found = ranked(config, request, wanted, top, opened, with_map=page is not None)
    show = plain_blocks if options.plain else ranking_blocks
    if options.export is not None:
        show = partial(exported_ranking, kind=options.export)
    print_answer(found, show, as_json)
    if page is not None:
        page(render_ranking(found, str(file)))


def _page(report: str | None, config: Config) -> Callable[[str], None] | None:
    """What writes a page to its place, which is looked at before there is anything to write."""
    from agent.page.file import check_page_path, write_page

    if report is None:
        return None
    place = Path(report)
    check_page_path(place, config.state_dir)

    def write(text: str) -> None:
        write_page(place, text, config.state_dir)
        console.note(f"page written: {place}")

    return write


def _refuse_two_forms(as_json: bool, plain: bool, export: ExportFormat | None) -> None:
    if as_json + plain + (export is not None) > 1:
        raise InputError("--json, --plain and --export exclude each other", "Choose one.")


TEST_HELP = (
    "A command that must succeed with the new file in place of FILE.c, e.g. 'make test'. "
    "FILE.c is kept beside it as .FILE.c.agent-kept and put back in any case, by a process of its "
    "own if the agent is killed; after a power cut: mv .FILE.c.agent-kept FILE.c"
)


@dataclass(frozen=True)
class EmitOptions:
    """Where the file goes, and whether it is tried."""

    out: Annotated[
        Path | None, typer.Option(metavar="X.c", help="Where it goes (default: stdout).")
    ] = None
    diff: Annotated[bool, typer.Option("--diff", help="Print what changes instead.")] = False
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False
    check: Annotated[
        bool, typer.Option(help="Run it against the function as written before it is offered.")
    ] = True
    date: Annotated[
        str, typer.Option(metavar="YYYY-MM-DD", help="The date in its comment (default: today).")
    ] = ""
    test: Annotated[str | None, typer.Option("--test", metavar="COMMAND", help=TEST_HELP)] = None
    test_limit: Annotated[
        str, typer.Option("--test-limit", metavar="T", help="How long --test may take: 90s, 1h.")
    ] = "10m"


@COMMANDS.command(
    epilog="Example: agent emit gemm.c --size ni=512 --size nj=512 --size nk=512 "
    "--schedule 'interchange j k; vectorize j' --out tuned.c"
)
@with_records
def emit(
    file: File,
    schedule: Annotated[str, typer.Option(metavar="S", help=SCHEDULE_HELP)],
    program: ProgramOptions,
    options: EmitOptions,
    compiled: CompilerOptions,
    as_json: Json = False,
) -> None:
    """Write the file with a schedule in place of the loops."""
    from agent.advise.emission import Wish
    from agent.advise.emission import emit as run
    from agent.terminal.advice_wording import (
        difference_blocks,
        emission_blocks,
        emission_checks,
    )

    wish = Wish(options.out, options.force, options.check, options.date, _tests(options))
    found = run(compiled.settings(), _request(file, program), schedule, wish)
    if (options.out is None or options.diff) and not as_json:
        for line in emission_checks(found):
            console.note(line)
    print_answer(found, difference_blocks if options.diff else emission_blocks, as_json)


@dataclass(frozen=True)
class ScheduleOptions:
    """Which schedules."""

    schedule: Annotated[
        list[str] | None, typer.Option(metavar="S", help=SCHEDULE_HELP + " (repeat)")
    ] = None
    schedules: Annotated[
        str | None,
        typer.Option("--from", metavar="FILE", help="Schedules, one a line; `-`: from stdin."),
    ] = None
    export: Export = None
    report: Report = None

    def wanted(self) -> list[str]:
        """All of them.

        Raises:
            InputError: there are none.
        """
        if found := [*(self.schedule or ()), *_lines(self.schedules)]:
            return found
        hint = "Give --schedule S, or --from FILE with one a line."
        raise InputError("no schedule is given", hint)


@COMMANDS.command(
    epilog="Example: agent measure gemm.c --size ni=512 --size nj=512 --size nk=512 "
    "--schedule 'vectorize j' --schedule 'parallelize i'"
)
@with_records
def measure(
    file: File,
    program: ProgramOptions,
    options: ScheduleOptions,
    compiled: CompilerOptions,
    as_json: Json = False,
) -> None:
    """Measure schedules against the program as written."""
    from agent.advise.advise import measure as run
    from agent.measure.resolve import runner_for_programs
    from agent.page.measuring import render_measurement
    from agent.state.lock import hold
    from agent.terminal.advice_wording import measurement_blocks
    from agent.terminal.export import exported_measurements

    _refuse_two_forms(as_json, plain=False, export=options.export)
    config = compiled.settings()
    request, wanted = _request(file, program), options.wanted()
    own_directory(config)
    page = _page(options.report, config)
    with hold(config.state_dir, "measure"):
        open_runner = partial(runner_for_programs, cflags=request.cflags or ())
        found = run(config, request, wanted, console.note, open_runner)
    show = measurement_blocks
    if options.export is not None:
        show = partial(exported_measurements, kind=options.export)
    print_answer(found, show, as_json)
    if page is not None:
        page(render_measurement(found, str(file)))


@dataclass(frozen=True)
class TuneOptions:
    """How long to search, with which memory, and where the result goes."""

    budget: Annotated[str, typer.Option(metavar="T", help="Time to spend: 20s, 2m.")] = "60s"
    out: Annotated[
        Path | None, typer.Option(metavar="X.c", help="Write the file with the winner in it.")
    ] = None
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False
    check: Annotated[
        bool, typer.Option(help="Run it against the function as written before it is offered.")
    ] = True
    save: Annotated[
        Path | None, typer.Option(metavar="LOG.jsonl", help="Add every timing to this log.")
    ] = None
    known: Annotated[
        Path | None,
        typer.Option("--from", metavar="LOG.jsonl", help="Begin with the timings of this log."),
    ] = None
    test: Annotated[str | None, typer.Option("--test", metavar="COMMAND", help=TEST_HELP)] = None
    test_limit: Annotated[
        str, typer.Option("--test-limit", metavar="T", help="How long --test may take: 90s, 1h.")
    ] = "10m"
    report: Report = None
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of what is drawn.")] = 0


@COMMANDS.command(
    epilog="Example: agent tune gemm.c --size ni=512 --size nj=512 --size nk=512 --out tuned.c"
)
@with_records
def tune(
    file: File,
    program: ProgramOptions,
    options: TuneOptions,
    model: ModelOptions,
    as_json: Json = False,
) -> None:
    """Search for the fastest schedule, and write it."""
    from agent.advise.emission import Wish
    from agent.advise.guided import TuneWish
    from agent.advise.tune import tune as run
    from agent.measure.resolve import runner_for_programs
    from agent.page.tuning import render_tuning
    from agent.state.lock import hold
    from agent.terminal.advice_wording import tuning_blocks

    config = model.settings(budget=options.budget)
    request = _request(file, program)
    own_directory(config)
    written = Wish(options.out, options.force, options.check, tests=_tests(options))
    wish = TuneWish(options.save, options.known, written, options.seed)
    page = _page(options.report, config)
    with hold(config.state_dir, "tune"), console.progress() as tell:
        compile_s = COMPILE_SHARE * config.budget_s
        cflags = request.cflags or ()
        open_runner = partial(runner_for_programs, cflags=cflags, compile_s=compile_s)
        found = run(config, request, wish, tell, open_runner)
    print_answer(found, tuning_blocks, as_json)
    if page is not None:
        page(render_tuning(found, str(file)))


def _tests(options: EmitOptions | TuneOptions) -> OwnTests | None:
    from agent.advise.own_tests import OwnTests
    from agent.settings.values import parse_duration

    limit_s = parse_duration(options.test_limit, 1.0, LONGEST_TESTS_S, "--test-limit")
    return None if options.test is None else OwnTests(options.test, limit_s)


def _anchor_runner(request: Request, run: bool) -> OpenRunner | None:
    """What times programs as written, as the person builds them; None: nothing is to be run."""
    from agent.advise.anchoring import runner_for_anchors

    return partial(runner_for_anchors, cflags=request.cflags or ()) if run else None


def _lines(place: str | None) -> list[str]:
    """The lines of a file, or of stdin, that are not empty."""
    import sys

    if place is None:
        return []
    try:
        if place == "-":
            text = sys.stdin.read(MOST_LETTERS + 1)
        else:
            with Path(place).open(encoding="utf-8", errors="replace") as file:
                text = file.read(MOST_LETTERS + 1)
    except OSError as error:
        raise InputError(f"{place} cannot be read: {error.strerror}", "Name a file.") from error
    if len(text) > MOST_LETTERS:
        words = f"{place} holds more than {MOST_LETTERS:,} letters"
        raise InputError(words, "Name a file with a schedule a line.")
    return [line for line in text.splitlines() if line.strip()]


def _request(file: Path, told: ProgramOptions | RankOptions) -> Request:
    from agent.advise.advise import Request
    from agent.settings.values import parse_sizes

    cflags = _build_flags(file) if told.cflags is None else _flags(told.cflags)
    sizes = parse_sizes(told.size or ())
    return Request(file, told.function, sizes, cflags, told.nest, told.other_sizes)


def _build_flags(file: Path) -> tuple[str, ...] | None:
    """The flags that a ``compile_commands.json`` compiles a file with, and that they are used."""
    from agent.advise.sources import database_of

    try:
        found = database_of(file)
    except InputError as error:
        console.note(f"{error.message}: its flags are not used")
        return None
    if found is None or not found[1].cflags:
        return None
    console.note(f"flags of {found[0]}: {' '.join(found[1].cflags)}")
    return found[1].cflags


def _flags(cflags: str | None) -> tuple[str, ...] | None:
    """The words of ``--cflags``."""
    import shlex

    try:
        return None if cflags is None else tuple(shlex.split(cflags))
    except ValueError as error:
        raise InputError(f"--cflags {cflags!r}: {error}", "Close every quote.") from error

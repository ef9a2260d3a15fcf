"""The command line: parse, one call, show; each command imports what it needs."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from agent import __version__, console
from agent.errors import AgentError, Exit, StoppedError

if TYPE_CHECKING:
    from agent.advise import Request
    from agent.config import Config
    from agent.state import State
    from agent.wording import Block

app: Final = typer.Typer(
    name="agent",
    help="Learns in a minute which version of a loop runs fastest on this machine.",
    epilog="First `agent calibrate`, then `agent rank FILE.c --size n=1000`.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
StateDir = Annotated[
    str | None,
    typer.Option(
        "--state-dir",
        metavar="DIR",
        help="Where timings and calibrations are kept (default: AGENT_STATE_DIR, "
        "STATE_DIRECTORY, else ~/.local/state/calibration-agent).",
    ),
]
BundleDir = Annotated[
    str | None,
    typer.Option("--bundle", metavar="DIR", help="Another encoder bundle than the default."),
]
Compiler = Annotated[
    str | None,
    typer.Option("--compiler", metavar="CC", help="The C compiler (default: CC, cc, gcc, clang)."),
]
File = Annotated[Path, typer.Argument(metavar="FILE.c", help="C file with a #pragma scop region.")]
Function = Annotated[
    str | None,
    typer.Option("--function", metavar="F", help="The function, where several have a region."),
]
Sizes = Annotated[
    list[str] | None,
    typer.Option("--size", metavar="NAME=N", help="Value of a size parameter (repeat)."),
]
Cflags = Annotated[
    str | None,
    typer.Option("--cflags", help="Flags for `cc -E`, e.g. '-I include -D SMALL'."),
]
SCHEDULE_HELP = "E.g. 'tile i 32 j 32; parallelize i_t; vectorize j'; 'original': as written."


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Learns in a minute which version of a loop runs fastest on this machine."""
    if version:
        console.answer({}, [f"agent {__version__}"])
        raise typer.Exit
    if context.invoked_subcommand is None:
        console.answer({}, context.get_help().split("\n"))


@app.command(epilog="Example: agent calibrate --budget 20s")
def calibrate(
    budget: Annotated[
        str | None, typer.Option(metavar="T", help="Time to spend: 20s, 2m (default 45s).")
    ] = None,
    refit: Annotated[bool, typer.Option("--refit", help="Measure nothing; use stored timings.")] = (
        False
    ),
    bundle: BundleDir = None,
    compiler: Compiler = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Time the fixed set, fit the model to this machine."""
    from agent import wording

    config = _config(state_dir=state_dir, bundle=bundle, compiler=compiler, budget=budget)
    with _writing(config, "calibrate") as state:
        from agent.calibrate import calibrate as run

        with console.progress() as tell:
            found = run(config, state, tell, refit=refit)
    _answer({k: v for k, v in found.items() if k not in _INTERNAL}, wording.calibration, as_json)


@app.command(epilog="Example: agent status --json")
def status(state_dir: StateDir = None, as_json: Json = False) -> None:
    """Show the calibration in force and how good it is."""
    from agent import wording
    from agent.records import status as read

    _answer(read(_config(state_dir=state_dir).state_dir), wording.status, as_json)


@app.command(epilog="Example: agent history --limit 5")
def history(
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many, newest first.")] = 20,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """List earlier calibrations, newest first."""
    from agent import wording
    from agent.records import history as read

    _answer(read(_config(state_dir=state_dir).state_dir, limit), wording.history, as_json)


@app.command(epilog="Example: agent kernels --json")
def kernels(state_dir: StateDir = None, as_json: Json = False) -> None:  # noqa: ARG001  as all have
    """List the fixed set and what each kernel stands for."""
    from agent import wording
    from agent.records import fixed_set

    _answer(fixed_set(), wording.kernels, as_json)


@app.command(
    epilog="Example: agent predict gemm.c --size ni=512 --size nj=512 --size nk=512 "
    "--schedule 'interchange j k; vectorize j'"
)
def predict(
    file: File,
    schedule: Annotated[str, typer.Option(metavar="S", help=SCHEDULE_HELP)],
    size: Sizes = None,
    function: Function = None,
    cflags: Cflags = None,
    bundle: BundleDir = None,
    compiler: Compiler = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Predict speed-up and seconds of one schedule."""
    from agent import wording
    from agent.advise import predict as run

    config = _config(state_dir=state_dir, bundle=bundle, compiler=compiler)
    found = run(config, _request(file, function, size, cflags), schedule)
    _answer(found, wording.prediction, as_json)


@app.command(epilog="Example: agent rank gemm.c --size ni=512 --size nj=512 --size nk=512 --top 5")
def rank(
    file: File,
    size: Sizes = None,
    candidates: Annotated[
        int, typer.Option(min=1, max=10_000, metavar="N", help="How many schedules to look at.")
    ] = 200,
    top: Annotated[
        int, typer.Option(min=0, max=10_000, metavar="K", help="How many to show (0: all).")
    ] = 10,
    function: Function = None,
    cflags: Cflags = None,
    bundle: BundleDir = None,
    compiler: Compiler = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Predict many legal schedules, best first."""
    from agent import wording
    from agent.advise import rank as run

    config = _config(state_dir=state_dir, bundle=bundle, compiler=compiler)
    found = run(config, _request(file, function, size, cflags), candidates, top or None)
    _answer(found, wording.ranking, as_json)


@app.command(
    epilog="Example: agent measure gemm.c --size ni=512 --size nj=512 --size nk=512 "
    "--schedule 'vectorize j' --schedule 'parallelize i'"
)
def measure(
    file: File,
    schedule: Annotated[list[str], typer.Option(metavar="S", help=SCHEDULE_HELP + " (repeat)")],
    size: Sizes = None,
    function: Function = None,
    cflags: Cflags = None,
    compiler: Compiler = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Measure schedules against the program as written."""
    from agent import wording
    from agent.advise import measure as run
    from agent.lock import hold
    from agent.state import make_directory

    config = _config(state_dir=state_dir, compiler=compiler)
    request = _request(file, function, size, cflags)
    make_directory(config.state_dir)
    with hold(config.state_dir, "measure"):
        found = run(config, request, schedule, console.note)
    _answer(found, wording.measurements, as_json)


@app.command(epilog="Example: agent update --from /media/usb/bundles --root root.json")
def update(
    check: Annotated[bool, typer.Option("--check", help="Only say what there is.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Take it even if it is worse on this machine.")
    ] = False,
    place: Annotated[
        str | None,
        typer.Option("--from", metavar="URL|DIR", help="Repository (default: as configured)."),
    ] = None,
    root_file: Annotated[
        str | None,
        typer.Option(
            "--root",
            metavar="FILE",
            help="The trusted root.json (default: /etc/calibration-agent/root.json).",
        ),
    ] = None,
    channel: Annotated[
        str | None, typer.Option(metavar="C", help="stable (default) or pilot.")
    ] = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Take the bundle that the centre offers, if it is signed, whole and not worse here."""
    from agent.update import wording
    from agent.update.flow import CHANGED

    config = _config(state_dir=state_dir, repository=place, trusted_root=root_file, channel=channel)
    with _writing(config, "update") as state:
        from agent.update.flow import update as run

        with console.progress() as tell:
            found = run(config, state, tell, check=check, force=force)
    _answer(found, wording.update, as_json)
    if found["outcome"] not in CHANGED:
        raise typer.Exit(Exit.NOTHING_TO_DO)


bundle_app: Final = typer.Typer(
    help="The bundles of this machine: list, show, go back, hold on to one.",
    rich_markup_mode=None,
)
app.add_typer(bundle_app, name="bundle")


@bundle_app.callback(invoke_without_command=True)
def bundle_root(context: typer.Context) -> None:
    """The bundles of this machine: list, show, go back, hold on to one."""
    if context.invoked_subcommand is None:
        console.answer({}, context.get_help().split("\n"))


@bundle_app.command("list", epilog="Example: agent bundle list --json")
def bundle_list(state_dir: StateDir = None, as_json: Json = False) -> None:
    """List the bundles that are or were here, the one in force first."""
    from agent.update import wording
    from agent.update.manage import listing

    _answer(listing(_config(state_dir=state_dir).state_dir), wording.bundles, as_json)


@bundle_app.command("show", epilog="Example: agent bundle show built-in")
def bundle_show(
    which: Annotated[
        str | None,
        typer.Argument(metavar="[BUNDLE]", help="Name, digest or `built-in` (default: in force)."),
    ] = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Show where a bundle came from: licence, provenance, evaluation, self-test."""
    from agent.update import wording
    from agent.update.manage import show

    _answer(show(_config(state_dir=state_dir).state_dir, which), wording.shown, as_json)


@bundle_app.command("rollback", epilog="Example: agent bundle rollback")
def bundle_rollback(state_dir: StateDir = None, as_json: Json = False) -> None:
    """Go back to the bundle before the one in force; updates do not undo it."""
    from agent.update import wording
    from agent.update.manage import rollback

    config = _config(state_dir=state_dir)
    with _writing(config, "bundle rollback") as state:
        found = rollback(config, state)
    _answer(found, wording.went_back, as_json)


@bundle_app.command("pin", epilog="Example: agent bundle pin")
def bundle_pin(state_dir: StateDir = None, as_json: Json = False) -> None:
    """Hold on to the bundle in force: updates leave it alone."""
    from agent.update import wording
    from agent.update.manage import pin

    config = _config(state_dir=state_dir)
    with _writing(config, "bundle pin") as state:
        found = pin(config, state)
    _answer(found, wording.pinned, as_json)


@bundle_app.command("unpin", epilog="Example: agent bundle unpin")
def bundle_unpin(state_dir: StateDir = None, as_json: Json = False) -> None:
    """Let updates change the bundle again."""
    from agent.update import wording
    from agent.update.manage import unpin

    config = _config(state_dir=state_dir)
    with _writing(config, "bundle unpin") as state:
        found = unpin(config, state)
    _answer(found, wording.pinned, as_json)


def main() -> int:
    """Run the command line; the exit code. The one place where errors end."""
    as_json = "--json" in sys.argv[1:]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stop is a stop
    try:
        code = app(standalone_mode=False)
        if code == Exit.INTERRUPTED:  # typer's own translation of KeyboardInterrupt
            return _fail(StoppedError("interrupted"), as_json)
        return code if isinstance(code, int) else Exit.OK
    except AgentError as error:
        return _fail(error, as_json)
    except KeyboardInterrupt:
        return _fail(StoppedError("interrupted"), as_json)
    except typer.TyperException as error:
        return _fail(_usage(error), as_json)
    except Exception as error:  # noqa: BLE001  the boundary: whatever is left is our bug
        return _fail(_bug(error), as_json)


_INTERNAL = frozenset(("model", "reach", "facts"))  # for predict; nobody reads hundreds of weights


def _config(**flags: str | None) -> Config:
    from agent.config import load

    return load(os.environ, flags)


@contextmanager
def _writing(config: Config, command: str) -> Iterator[State]:
    """The state, locked and open for writing; whoever holds the lock is named."""
    from agent.lock import hold
    from agent.state import make_directory, open_state

    make_directory(config.state_dir)
    with hold(config.state_dir, command), open_state(config.state_dir) as state:
        for line in state.notices:
            console.note(f"note: {line}")
        yield state


def _request(
    file: Path, function: str | None, sizes: list[str] | None, cflags: str | None
) -> Request:
    import shlex

    from agent.advise import Request
    from agent.config import parse_sizes
    from agent.errors import InputError

    try:
        flags = None if cflags is None else tuple(shlex.split(cflags))
    except ValueError as error:
        raise InputError(f"--cflags {cflags!r}: {error}", "Close every quote.") from error
    return Request(file, function, parse_sizes(sizes or ()), flags)


def _answer(
    body: Mapping[str, Any], show: Callable[[Mapping[str, Any]], list[Block]], as_json: bool
) -> None:
    console.answer(body, None if as_json else show(body))


def _fail(error: AgentError, as_json: bool) -> int:
    console.failure(error, as_json=as_json)
    return error.exit_code


def _usage(error: typer.TyperException) -> AgentError:
    """A mistake in the command line, in our form."""
    from agent.errors import InputError

    hint = "See `agent --help`, or `agent COMMAND --help`."
    unknown, where = getattr(error, "option_name", None), getattr(error, "ctx", None)
    if unknown and where is not None and where.parent is None:
        hint = f"Options follow the command, as in `agent status {unknown}`. {hint}"
    return InputError(error.format_message(), hint)


def _bug(error: Exception) -> AgentError:
    """An unexpected exception: short words, and where the traceback is."""
    from agent.crash import BugError, write_log

    where = write_log(error, os.environ, sys.argv)
    return BugError(f"a bug in the agent: {type(error).__name__}: {error}", where)

"""Finding this machine's C compiler, and compiling into the content-addressed cache.

The flags are what people who care about speed use without changing what programs mean:
``-O3``, this CPU's instructions, OpenMP, GNU C11 (so that a*b+c may become one FMA, GCC's own
default; strict ``-std=c11`` would forbid it), and ``-fno-math-errno`` (nobody reads errno in a
loop nest, and sqrt cannot be vectorised otherwise). Never ``-ffast-math``: it changes results.
"""

from __future__ import annotations

import hashlib
import math
import os
import shlex
import shutil
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import ClassVar, TypeVar

from agent.errors import CompilerError, StateError
from agent.measure.cache import Cache
from agent.measure.toolchain import HINT_INSTALL, Built, Kind, OnBuilt
from agent.system.child import ChildLimits, find_command, run_child
from agent.system.refused import usable_cpus
from agent.system.tasks import REFUSED, check_error, check_words

HARNESS = Path(__file__).with_name("harness.c")  # source of the worker

T = TypeVar("T")
BASE_FLAGS = ("-std=gnu11", "-O3", "-fno-math-errno")
NATIVE_FLAGS = (("-march=native",), ("-mcpu=native",), ())
UNOPTIMISED = ("-O0", "-Og")
_TUNING = ("-f", "-m")
OPENMP_FLAGS = ("-fopenmp", "-fopenmp-simd")
CANDIDATES = ("cc", "gcc", "clang")
PREBUILT_NAME = "prebuilt"  # what is named in place of a compiler to have none
PROBE_LIMITS = ChildLimits(seconds=20.0, memory=4 << 30, file=64 << 20, output=1 << 20)
COMPILE_LIMITS = replace(PROBE_LIMITS, seconds=60.0)
LEAST_LIMIT_S = 10.0  # for any version
PROPORTION = 200.0  # a version may take so many times what the first takes (43 in the fixed set)
MAX_WORDS = 2_000  # characters of a compiler's message that are shown
PROBE = """
#include <math.h>
#include <stdint.h>
#ifdef _OPENMP
#include <omp.h>
int probe(void) { return omp_get_max_threads(); }
#endif
"""


@dataclass(frozen=True, slots=True)
class Compiler:
    """A C compiler that was tried and works (a ``Toolchain``).

    Attributes:
        words: the command up to its flags, e.g. ``/usr/bin/ccache`` and ``gcc``.
        target: its target triple, e.g. ``x86_64-linux-gnu``; the others: see ``Toolchain``.
        most_s: seconds that a version may take where it would be worth no more.
    """

    kind: ClassVar[Kind] = "compiler"
    words: tuple[str, ...]
    version: str
    target: str
    flags: tuple[str, ...]
    openmp: bool
    identity: str
    mark: str = ""
    most_s: float = math.inf

    @property
    def compiler(self) -> str:
        """Absolute path of its driver, with what launches it before it."""
        return " ".join(self.words)

    @property
    def described(self) -> str:
        """Its version."""
        return self.version

    @property
    def preparing(self) -> str:
        """That it compiles."""
        return f"compiling with {self.compiler}"

    def vector_bytes(self) -> int:
        """From the macros that it predefines under its flags (16 where none tells)."""
        command = [*self.words, *self.flags, "-dM", "-E", "-xc", "/dev/null"]
        words = _call(command, Path("/"), PROBE_LIMITS).split()
        return 64 if "__AVX512F__" in words else 32 if "__AVX__" in words else 16

    def worker(self, cache: Cache) -> Path:
        """Compile the harness."""
        return _compile(self, HARNESS.read_text(), cache, Form((), ("-ldl",)), Way())

    def build(
        self, sources: Sequence[str], cache: Cache, progress: OnBuilt | None = None
    ) -> Sequence[Built]:
        """Compile shared objects in parallel, equal sources once.

        The time that the first of them takes limits what the others may take. ``progress`` is
        called from this thread; KeyboardInterrupt stops all compilers.
        """
        return _compile_many(self, sources, cache, progress)

    def references(self, source: str, cache: Cache) -> list[Built]:
        """See ``Toolchain``."""
        flags = ("-O0", "-ffp-contract=off")
        return [self.with_flags(flag).build([source], cache)[0] for flag in flags]

    def with_flags(self, *more: str) -> Compiler:
        """The same compiler with ``more`` flags after its own (a later one wins)."""
        identity = _digest(self.identity, *more)
        return replace(self, flags=(*self.flags, *more), identity=identity)


def working_compiler(compiler: str | None = None, flags: Sequence[str] | None = None) -> Compiler:
    """The compiler to use: ``compiler``, else $CC, else cc, gcc, clang; tried before returned.

    Args:
        compiler: a name or path; nothing else is tried when given.
        flags: replace the default flags altogether.

    Raises:
        CompilerError: none is found, or the one found cannot compile a small program.
        StateError: there is no temporary directory to try it in.
    """
    words, own = _locate(compiler)
    version = _ask(words, "--version").splitlines()[0]
    target = _ask(words, "-dumpmachine").strip()
    chosen = (*own, *flags) if flags is not None else _default_flags(words, own)
    if flags is not None:
        _probe(words, chosen)
    identity = _identity(words, version, target, chosen)
    openmp = "-fopenmp" in chosen
    return Compiler(words, version, target, chosen, openmp, identity, _mark(words, own, version))


def build_flags(cflags: Sequence[str]) -> tuple[str, ...] | None:
    """The flags of a person's build that decide how fast code is; None: they leave it to us.

    A build that is not optimised (``-O0``, ``-Og``) leaves it to us.
    """
    if not any(flag.startswith("-O") and flag not in UNOPTIMISED for flag in cflags):
        return None
    return ("-std=gnu11", *(flag for flag in cflags if flag[:2] in ("-O", *_TUNING)))


def tuning_flags(cflags: Sequence[str]) -> tuple[str, ...]:
    """The flags of a person's build that change fast code, where it leaves ``-O`` to us."""
    return tuple(flag for flag in cflags if flag[:2] in _TUNING)


def compiler_mark(compiler: str | None = None) -> str:
    """What changes when the compiler does: found in milliseconds, nothing is compiled or written.

    Args:
        compiler: as for ``working_compiler``.

    Raises:
        CompilerError: there is none, or it says nothing of itself.
    """
    words, own = _locate(compiler)
    return _mark(words, own, _ask(words, "--version").splitlines()[0])


def _mark(words: Sequence[str], own: Sequence[str], version: str) -> str:
    return _digest(*words, *own, version, *_stamp(words))


def _stamp(words: Sequence[str]) -> tuple[str, ...]:
    """Which files a command runs, and how large and old they are."""
    stamp: list[str] = []
    for word in words:
        try:
            file = Path(shutil.which(word) or word).resolve()
            found = file.stat()
        except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
            raise CompilerError(f"{word} cannot be looked at: {error}", HINT_INSTALL) from error
        stamp += [str(file), str(found.st_size), str(found.st_mtime_ns)]
    return tuple(stamp)


def _digest(*words: str) -> str:
    return hashlib.sha256("\0".join(words).encode("utf-8", "surrogateescape")).hexdigest()


@dataclass(frozen=True, slots=True)
class Form:
    """What is made of a source: the flags before it, the libraries after it."""

    flags: tuple[str, ...]
    libraries: tuple[str, ...] = ()


SHARED = Form(("-shared", "-fPIC"))


@dataclass(frozen=True, slots=True)
class Way:
    """How long a compilation may take, and what ends it before."""

    limits: ChildLimits = COMPILE_LIMITS
    stopped: threading.Event = field(default_factory=threading.Event)


def _compile_many(
    compiler: Compiler, sources: Sequence[str], cache: Cache, progress: OnBuilt | None
) -> list[Path | CompilerError]:
    unique = list(dict.fromkeys(sources))
    way = Way()
    with ThreadPoolExecutor(len(usable_cpus())) as pool:
        try:
            first = pool.submit(_limits, compiler, unique, cache, way)
            _report([first], progress, len(unique))
            limited = Way(first.result(), way.stopped)
            futures = [pool.submit(_attempt, compiler, s, cache, limited) for s in unique]
            _report(futures, progress, len(unique))
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            way.stopped.set()
            if isinstance(error, RuntimeError):  # of a pool that may start no thread
                check_words(REFUSED)
            raise
    results = dict(zip(unique, (f.result() for f in futures), strict=True))
    cache.trim()
    return [results[s] for s in sources]


def _limits(compiler: Compiler, sources: Sequence[str], cache: Cache, way: Way) -> ChildLimits:
    """What compiling each of ``sources`` may take: so many times what the first takes now."""
    if all(cache.get(_key(compiler, SHARED, source)) for source in sources[1:]):
        return COMPILE_LIMITS
    started = time.monotonic()
    try:
        _compile_anew(compiler, sources[0], cache, SHARED, way)
    except CompilerError:
        return COMPILE_LIMITS
    proportional = PROPORTION * (time.monotonic() - started)
    seconds = max(LEAST_LIMIT_S, min(proportional, compiler.most_s))
    return replace(COMPILE_LIMITS, seconds=seconds)


def _report(futures: Sequence[Future[T]], progress: OnBuilt | None, total: int) -> None:
    pending = set(futures)
    while pending:
        done, pending = wait(pending, timeout=0.2, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
        if progress is not None:
            progress(sum(f.done() for f in futures), total)


def _attempt(compiler: Compiler, source: str, cache: Cache, way: Way) -> Path | CompilerError:
    try:
        return _compile(compiler, source, cache, SHARED, way)
    except CompilerError as error:
        return error


def _compile(compiler: Compiler, source: str, cache: Cache, form: Form, way: Way) -> Path:
    """One C translation unit, compiled, from the cache if it was compiled before.

    Raises:
        CompilerError: the compiler refused it; the message holds its own words.
        TaskLimitError: no process may be started. StateError: the cache cannot be written.
    """
    found = cache.get(_key(compiler, form, source))
    return found or _compile_anew(compiler, source, cache, form, way)


def _key(compiler: Compiler, form: Form, source: str) -> str:
    return _digest(compiler.identity, *form.flags, source)


def _compile_anew(compiler: Compiler, source: str, cache: Cache, form: Form, way: Way) -> Path:
    with cache.workplace() as place:
        (place / "kernel.c").write_text(source)
        command = [*compiler.words, *compiler.flags, *form.flags, "kernel.c", "-o", "kernel"]
        _call([*command, *form.libraries, "-lm"], place, way.limits, way.stopped)
        return cache.put(_key(compiler, form, source), place / "kernel")


def _call(
    command: list[str], place: Path, limits: ChildLimits, stopped: threading.Event | None = None
) -> str:
    """What the compiler printed; CompilerError with its words if it failed or took too long."""
    environment = {**os.environ, "TMPDIR": str(place), "LC_ALL": "C"}
    try:
        run = run_child(command, limits, place=place, environment=environment, stopped=stopped)
    except OSError as error:
        check_error(error)
        raise CompilerError(f"{command[0]}: {error.strerror}", HINT_INSTALL) from error
    if run.status is None:
        raise CompilerError(f"{command[0]}: stopped after {limits.seconds:.0f} s of compiling")
    output = run.output.decode("utf-8", "replace")
    if run.status:
        check_words(run.words)
        shown = (run.words or output.strip())[:MAX_WORDS] or f"exit status {run.status}"
        hint = f"The command was: {shlex.join(command)}"
        raise CompilerError(f"{command[0]} failed:\n{shown}", hint)
    return output


def _locate(compiler: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The words of the compiler's command, as make splits CC, and the flags after them."""
    if compiler == PREBUILT_NAME:
        raise CompilerError(
            "the prebuilt set holds the fixed set only; this needs a C compiler", HINT_INSTALL
        )
    named = compiler or os.environ.get("CC")
    names = (named,) if named else CANDIDATES
    for name in names:
        if found := find_command(name):
            count = sum(1 for _ in takewhile(lambda word: not word.startswith("-"), found))
            return found[:count], found[count:]
    if named:
        raise CompilerError(f"the C compiler {named!r} was not found", HINT_INSTALL)
    raise CompilerError("no C compiler was found (tried cc, gcc, clang)", HINT_INSTALL)


def _ask(words: Sequence[str], option: str) -> str:
    said = _call([*words, option], Path("/"), PROBE_LIMITS)
    if not said.strip():
        command = " ".join(words)
        raise CompilerError(f"{command} {option} says nothing; is it a C compiler?", HINT_INSTALL)
    return said


def _default_flags(words: Sequence[str], own: Sequence[str]) -> tuple[str, ...]:
    """The default flags that this compiler takes: native code and OpenMP where it can."""
    problem: CompilerError | None = None
    for native in NATIVE_FLAGS:
        for openmp in (*OPENMP_FLAGS, None):
            flags = (*own, *BASE_FLAGS, *native, *((openmp,) if openmp else ()))
            try:
                _probe(words, flags)
            except CompilerError as error:
                problem = error
            else:
                return flags
    assert problem is not None  # noqa: S101  the loops above ran at least once
    raise CompilerError(f"cannot compile a small program: {problem.message}", HINT_INSTALL)


def _probe(words: Sequence[str], flags: Sequence[str]) -> None:
    """Compile and link a small shared object, result thrown away."""
    try:
        with tempfile.TemporaryDirectory(prefix="agent-probe-") as place:
            Path(place, "probe.c").write_text(PROBE)
            command = [*words, *flags, "-shared", "-fPIC", "probe.c", "-o", "probe", "-lm"]
            _call(command, Path(place), PROBE_LIMITS)
    except OSError as error:
        hint = "Free some space in the temporary directory, or set TMPDIR to another."
        raise StateError(f"the compiler cannot be tried: {error}", hint) from error


def _identity(words: Sequence[str], version: str, target: str, flags: Sequence[str]) -> str:
    """Digest of the compiler's files, its words, the flags, and this CPU's features."""
    return _digest(*words, *_stamp(words), version, target, *flags, _cpu_features())


def _cpu_features() -> str:
    """What ``-march=native`` depends on; a cache may travel with a disk image."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    wanted = ("flags", "Features", "model name", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))

"""Finding this machine's C compiler, and compiling into the content-addressed cache.

The flags are what people who care about speed use without changing what programs mean:
``-O3``, this CPU's instructions, OpenMP, GNU C11 (so that a*b+c may become one FMA, GCC's own
default; strict ``-std=c11`` would forbid it), and ``-fno-math-errno`` (nobody reads errno in a
loop nest, and sqrt cannot be vectorised otherwise). Never ``-ffast-math``: it changes results.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from agent.errors import CompilerError, StateError
from agent.measure.cache import Cache

BASE_FLAGS = ("-std=gnu11", "-O3", "-fno-math-errno")
NATIVE_FLAGS = (("-march=native",), ("-mcpu=native",), ())
OPENMP_FLAGS = ("-fopenmp", "-fopenmp-simd")
CANDIDATES = ("cc", "gcc", "clang")
PREBUILT_KIND: Literal["prebuilt"] = "prebuilt"
COMPILE_LIMIT_S = 60.0
PROBE_LIMIT_S = 20.0
MAX_WORDS = 2_000  # characters of a compiler's message that are shown
PROBE = """
#include <math.h>
#include <stdint.h>
#ifdef _OPENMP
#include <omp.h>
int probe(void) { return omp_get_max_threads(); }
#endif
"""
HINT_INSTALL = (
    "Install a C compiler (Debian, Ubuntu: apt install gcc libc6-dev; Fedora: dnf install gcc; "
    "Alpine: apk add gcc musl-dev), or name one with --compiler or CC."
)


@dataclass(frozen=True, slots=True)
class Toolchain:
    """A C compiler that was tried and works, or a prebuilt set in place of one.

    Attributes:
        compiler: absolute path of the driver, or of the prebuilt executable.
        version: first line of ``--version``, or of what the prebuilt set was made with.
        target: its target triple, e.g. ``x86_64-linux-gnu``.
        flags: flags of every compilation (without ``-shared -fPIC``).
        openmp: whether threads are available (else ``omp parallel for`` runs serially).
        identity: digest of everything that decides the machine code besides the source.
        kind: ``prebuilt``: compiles nothing (see ``agent.measure.prebuilt``), and parallel loops
            run on the harness's own threads in place of the compiler's OpenMP.
    """

    compiler: str
    version: str
    target: str
    flags: tuple[str, ...]
    openmp: bool
    identity: str
    kind: Literal["compiler", "prebuilt"] = "compiler"


def find_toolchain(compiler: str | None = None, flags: Sequence[str] | None = None) -> Toolchain:
    """The compiler to use: ``compiler``, else $CC, else cc, gcc, clang; tried before returned.

    Args:
        compiler: a name or path; nothing else is tried when given.
        flags: replace the default flags altogether.

    Raises:
        CompilerError: none is found, or the one found cannot compile a small program.
        StateError: there is no temporary directory to try it in.
    """
    path = _locate(compiler)
    version = _ask(path, "--version").splitlines()[0]
    target = _ask(path, "-dumpmachine").strip()
    chosen = tuple(flags) if flags is not None else _default_flags(path)
    if flags is not None:
        _probe(path, chosen)
    identity = _identity(path, version, target, chosen)
    return Toolchain(path, version, target, chosen, "-fopenmp" in chosen, identity)


def compiler_mark(compiler: str | None = None) -> str:
    """What changes when the compiler does: found in milliseconds, nothing is compiled or written.

    Args:
        compiler: as for ``find_toolchain``.

    Raises:
        CompilerError: there is none, or it says nothing of itself.
    """
    path = _locate(compiler)
    version = _ask(path, "--version").splitlines()[0]
    try:
        file = Path(path).resolve()
        found = file.stat()
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise CompilerError(f"{path} cannot be looked at: {error}", HINT_INSTALL) from error
    return _digest(path, str(file), version, str(found.st_size), str(found.st_mtime_ns))


def vector_bytes(toolchain: Toolchain) -> int:
    """Width of the widest vectors that its compiled code may use, in bytes.

    Read from the macros the compiler predefines under its flags (16 where none tells).
    """
    command = [toolchain.compiler, *toolchain.flags, "-dM", "-E", "-xc", "/dev/null"]
    words = _call(command, Path("/"), PROBE_LIMIT_S, _Running()).split()
    return 64 if "__AVX512F__" in words else 32 if "__AVX__" in words else 16


def with_flags(toolchain: Toolchain, *more: str) -> Toolchain:
    """The same compiler with ``more`` flags after its own (a later one wins)."""
    identity = _digest(toolchain.identity, *more)
    return replace(toolchain, flags=(*toolchain.flags, *more), identity=identity)


def _digest(*words: str) -> str:
    return hashlib.sha256("\0".join(words).encode()).hexdigest()


def compile_shared(toolchain: Toolchain, source: str, cache: Path | Cache) -> Path:
    """The shared object of one C translation unit, from the cache if it was compiled before.

    Raises:
        CompilerError: the compiler refused it; the message holds its own words.
        StateError: the cache cannot be written.
    """
    return _compile(toolchain, source, _cache(cache), ("-shared", "-fPIC"), None)


def compile_executable(toolchain: Toolchain, source: str, cache: Path | Cache) -> Path:
    """The executable of one C translation unit; errors as for ``compile_shared``."""
    path = _compile(toolchain, source, _cache(cache), (), None, ("-ldl",))
    path.chmod(0o700)
    return path


def compile_many(
    toolchain: Toolchain,
    sources: Sequence[str],
    cache: Path | Cache,
    *,
    jobs: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path | CompilerError]:
    """Compile in parallel; a refused source gives its error in place of a path.

    Args:
        toolchain: the compiler.
        sources: C translation units; equal ones are compiled once.
        cache: where the results are kept.
        jobs: compilers at once (default: the CPUs this process may use).
        progress: called with (done, total) from this thread as results arrive.

    Raises:
        StateError: the cache cannot be written. KeyboardInterrupt stops all compilers.
    """
    store, unique = _cache(cache), list(dict.fromkeys(sources))
    running = _Running()
    with ThreadPoolExecutor(jobs or len(os.sched_getaffinity(0))) as pool:
        futures = [pool.submit(_attempt, toolchain, s, store, running) for s in unique]
        try:
            _report(futures, progress)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            running.stop()
            raise
    results = dict(zip(unique, (f.result() for f in futures), strict=True))
    store.trim()
    return [results[s] for s in sources]


def _report(
    futures: list[Future[Path | CompilerError]], progress: Callable[[int, int], None] | None
) -> None:
    pending: set[Future[Path | CompilerError]] = set(futures)
    while pending:
        done, pending = wait(pending, timeout=0.2, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
        if progress is not None:
            progress(sum(f.done() for f in futures), len(futures))


def _attempt(
    toolchain: Toolchain, source: str, cache: Cache, running: _Running
) -> Path | CompilerError:
    try:
        return _compile(toolchain, source, cache, ("-shared", "-fPIC"), running)
    except CompilerError as error:
        return error


def _compile(
    toolchain: Toolchain,
    source: str,
    cache: Cache,
    kind: tuple[str, ...],
    running: _Running | None,
    libraries: tuple[str, ...] = (),
) -> Path:
    key = hashlib.sha256("\0".join((toolchain.identity, *kind, source)).encode()).hexdigest()
    if (path := cache.get(key)) is not None:
        return path
    with cache.workplace() as place:
        (place / "kernel.c").write_text(source)
        command = [toolchain.compiler, *toolchain.flags, *kind, "kernel.c", "-o", "kernel"]
        _call([*command, *libraries, "-lm"], place, COMPILE_LIMIT_S, running or _Running())
        return cache.put(key, place / "kernel")


class _Running:
    """The compilers running now, so that an interruption can stop them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processes: set[subprocess.Popen[str]] = set()
        self._stopped = False

    def start(self, command: Sequence[str], place: Path) -> subprocess.Popen[str]:
        with self._lock:
            if self._stopped:
                raise CompilerError("compilation was interrupted")
            process = subprocess.Popen(
                command,
                cwd=place,
                env={**os.environ, "TMPDIR": str(place), "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            self._processes.add(process)
            return process

    def end(self, process: subprocess.Popen[str]) -> None:
        with self._lock:
            self._processes.discard(process)

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            for process in self._processes:
                _kill(process)


def _call(command: list[str], place: Path, limit_s: float, running: _Running) -> str:
    """What the compiler printed; CompilerError with its words if it failed or took too long."""
    try:
        process = running.start(command, place)
    except OSError as error:
        raise CompilerError(f"{command[0]}: {error.strerror}", HINT_INSTALL) from error
    try:
        words, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired as error:
        raise CompilerError(f"{command[0]}: stopped after {limit_s:.0f} s") from error
    finally:
        if process.poll() is None:
            _kill(process)
            process.wait()
        running.end(process)
    if process.returncode:
        shown = words.strip()[:MAX_WORDS] or f"exit status {process.returncode}"
        hint = f"The command was: {shlex.join(command)}"
        raise CompilerError(f"{command[0]} failed:\n{shown}", hint)
    return words


def _kill(process: subprocess.Popen[str]) -> None:
    """End a compiler and what it started (it leads a process group of its own)."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _locate(compiler: str | None) -> str:
    if compiler == PREBUILT_KIND:
        raise CompilerError(
            "the prebuilt set holds the fixed set only; this needs a C compiler", HINT_INSTALL
        )
    named = compiler or os.environ.get("CC")
    names = (named,) if named else CANDIDATES
    for name in names:
        if path := shutil.which(name):
            return str(Path(path).absolute())
    if named:
        raise CompilerError(f"the C compiler {named!r} was not found", HINT_INSTALL)
    raise CompilerError("no C compiler was found (tried cc, gcc, clang)", HINT_INSTALL)


def _ask(path: str, option: str) -> str:
    words = _call([path, option], Path("/"), PROBE_LIMIT_S, _Running())
    if not words.strip():
        raise CompilerError(f"{path} {option} says nothing; is it a C compiler?", HINT_INSTALL)
    return words


def _default_flags(path: str) -> tuple[str, ...]:
    """The default flags that this compiler takes: native code and OpenMP where it can."""
    problem: CompilerError | None = None
    for native in NATIVE_FLAGS:
        for openmp in (*OPENMP_FLAGS, None):
            flags = (*BASE_FLAGS, *native, *((openmp,) if openmp else ()))
            try:
                _probe(path, flags)
            except CompilerError as error:
                problem = error
            else:
                return flags
    assert problem is not None  # noqa: S101  the loops above ran at least once
    raise CompilerError(f"cannot compile a small program: {problem.message}", HINT_INSTALL)


def _probe(path: str, flags: Sequence[str]) -> None:
    """Compile and link a small shared object, result thrown away."""
    try:
        with tempfile.TemporaryDirectory(prefix="agent-probe-") as place:
            Path(place, "probe.c").write_text(PROBE)
            command = [path, *flags, "-shared", "-fPIC", "probe.c", "-o", "probe", "-lm"]
            _call(command, Path(place), PROBE_LIMIT_S, _Running())
    except OSError as error:
        hint = "Free some space in the temporary directory, or set TMPDIR to another."
        raise StateError(f"the compiler cannot be tried: {error}", hint) from error


def _identity(path: str, version: str, target: str, flags: Sequence[str]) -> str:
    """Digest of the compiler binary's stamp, its words, the flags, and this CPU's features."""
    stat = Path(path).resolve().stat()
    stamp = (str(Path(path).resolve()), str(stat.st_size), str(stat.st_mtime_ns))
    parts = (*stamp, version, target, *flags, _cpu_features())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _cpu_features() -> str:
    """What ``-march=native`` depends on; a cache may travel with a disk image."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    wanted = ("flags", "Features", "model name", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))


def _cache(cache: Path | Cache) -> Cache:
    return cache if isinstance(cache, Cache) else Cache(cache)

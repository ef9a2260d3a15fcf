"""The platforms' wheels: what is prebuilt in them gives the same everywhere, without a compiler.

PREBUILT_AARCH64=1 in the environment: that of aarch64 too, emulated. Its C library is compiled for
it alone, which takes longer than all that these tests do with it.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from agent.kernels.fixed_set import fixed_variants, kernels, load_kernel
from agent.loopnest.emitter.emit import emit
from agent.loopnest.program import DType
from agent.loopnest.schedules.legality import Dependences, transform
from agent.measure.machine import read_machine
from agent.measure.plan import Arguments, arguments_of
from agent.measure.prebuilt import INDEX, _levels_run_by, program_name
from agent.measure.worker import Worker, environment
from bundles.fixed_set.prebuild import ARCHITECTURES
from tests.system.conftest import isolated_environment

INSIDE = "agent/kernels/prebuilt/"
REFERENCE = "x86-64-v3"
# Which products and sums become one instruction with one rounding is decided otherwise there.
FUSED_OTHERWISE = ("x86-64-v2", "aarch64")
ROUNDING = {"f4": 64 * 2.0**-23, "f8": 64 * 2.0**-52}
NUMPY = {DType.F32: "f4", DType.F64: "f8", DType.I32: "i4", DType.U8: "u1"}
LIMIT_S = 120.0  # of a program, emulated, on a machine that has other things to do
THREADS = 3  # more than a small machine has CPUs, and no divisor of most loops' iterations
NOT_EMULATED = ("x86-64-v3", "x86-64-v4")  # Debian 12's qemu breaks AVX2 and has no AVX-512
TRIED = tuple(ARCHITECTURES) if os.environ.get("PREBUILT_AARCH64") else ("x86_64",)
LEVELS = {level.name: arch for arch in TRIED for level in ARCHITECTURES[arch]}


@dataclass(frozen=True)
class Family:
    """A program as written and its schedules, which share their arguments."""

    arguments: Arguments
    sources: tuple[str, ...]


@cache
def families():
    """Everything that the executables hold, by the name of its kernel."""
    found = {}
    for kernel in kernels():
        base = load_kernel(kernel)
        known = Dependences.of(base)
        schedules = [v.schedule for v in fixed_variants() if v.kernel is kernel]
        sources = [emit(transform(base, s, known)) for s in schedules]
        found[kernel.name] = Family(arguments_of(base), (emit(base), *sources))
    return found


def results(command, folder, threads=THREADS):
    """What each program leaves in each array that it writes, by (family, program, array)."""
    left = {}
    cpus = range(threads)
    for name, family in families().items():
        with Worker(command, environment(cpus)) as worker:
            worker.ready()
            worker.ask(f"cpus {' '.join(map(str, cpus))}", LIMIT_S)
            for line in (*family.arguments.commands(), "seal"):
                assert worker.ask(line, LIMIT_S) == ["ok"], (name, line)
            for slot, source in enumerate(family.sources):
                assert worker.ask(f"load {program_name(source)}", LIMIT_S) == ["ok"], name
                said = worker.ask(f"check {slot}", LIMIT_S)
                assert said[3] == "-1", f"{name}, program {slot}, is not as written: {said}"
                for i, array in enumerate(family.arguments.arrays):
                    if array.written:
                        path = folder / "dumped"
                        assert worker.ask(f"dump {i} {path}", LIMIT_S) == ["ok"], name
                        left[name, slot, i] = np.fromfile(path, NUMPY[array.dtype])
                        path.unlink()
    return left


def same(values, expected, *, exactly):
    """Equal bits; or, for floats, equal but for some roundings at the element's or mean's size."""
    if exactly or values.dtype.kind != "f":
        return values.tobytes() == expected.tobytes()
    size = np.abs(expected)
    bound = ROUNDING[values.dtype.str[1:]] * np.maximum(size, size.mean())
    return bool((np.abs(values - expected) <= bound).all())


def assert_same(found, expected, *, fused_alike=True):
    """Only a reduction's sum, and what is fused or not, may be rounded differently."""
    assert found.keys() == expected.keys()
    for (name, slot, i), values in found.items():
        exactly = fused_alike and "reduction(" not in families()[name].sources[slot]
        agree = same(values, expected[name, slot, i], exactly=exactly)
        assert agree, f"{name}, program {slot}, array {i}"


def how_to_run(level):
    """The command before an executable of ``level``; skips where nothing here runs it."""
    machine = read_machine()
    if level in _levels_run_by(machine.level):
        return ()
    if level in NOT_EMULATED:
        pytest.skip(f"this CPU is {machine.level}, and qemu cannot stand in")
    emulator = f"qemu-{LEVELS[level]}-static"
    found = shutil.which(emulator)
    if not found:
        pytest.skip(f"{emulator} (Debian: qemu-user-static) is not installed")
    return (found, "-cpu", "max")


@pytest.fixture(scope="module")
def prebuilt(wheel, tmp_path_factory):
    """A function that gives the command that runs a level's executable, out of its wheel."""

    def command(level):
        before = how_to_run(level)
        folder = tmp_path_factory.mktemp(level)
        with zipfile.ZipFile(wheel(LEVELS[level])) as file:
            file.extract(INSIDE + level, folder)
        executable = folder / INSIDE / level
        executable.chmod(0o700)
        return (*before, str(executable))

    return command


@pytest.fixture(scope="module")
def reference(prebuilt, tmp_path_factory):
    return results(prebuilt(REFERENCE), tmp_path_factory.mktemp("reference"))


@pytest.mark.parametrize("level", [name for name in LEVELS if name != REFERENCE])
def test_every_program_gives_the_same_results_on_every_kind_of_cpu(
    level, prebuilt, reference, tmp_path
):
    found = results(prebuilt(level), tmp_path)
    assert_same(found, reference, fused_alike=level not in FUSED_OTHERWISE)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_every_program_gives_the_same_results_on_any_number_of_threads(
    threads, prebuilt, reference, tmp_path
):
    assert_same(results(prebuilt(REFERENCE), tmp_path, threads), reference)


@pytest.mark.parametrize("architecture", TRIED)
def test_a_wheel_is_of_its_platform_and_holds_the_fixed_set_of_today(architecture, wheel):
    made = wheel(architecture)
    assert f"manylinux2014_{architecture}." in made.name
    with zipfile.ZipFile(made) as file:
        index = json.loads(file.read(INSIDE + INDEX))
        held = {n.removeprefix(INSIDE) for n in file.namelist() if n.startswith(INSIDE)}
    levels = {level.name for level in ARCHITECTURES[architecture]}
    sources = {s for family in families().values() for s in family.sources}
    assert held == {INDEX, *levels}
    assert set(index["programs"]) == {program_name(s) for s in sources}


@pytest.fixture(scope="module")
def bare_agent(wheel, tmp_path_factory):
    """This platform's wheel, installed where no compiler is to be found: a function to call it."""
    place = tmp_path_factory.mktemp("bare")
    venv.create(place / "venv")
    python = place / "venv/bin/python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index")
    made = wheel(platform.machine())
    subprocess.run([*pip, "--no-deps", made], check=True, env=isolated_environment())
    # Its libraries are those of these tests; the agent itself comes from the wheel.
    libraries = Path(sysconfig.get_path("purelib", vars={"base": str(place / "venv")}))
    (libraries / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    (place / "no-programs").mkdir()

    def call(*words):
        done = subprocess.run(
            [place / "venv/bin/agent", *words, "--state-dir", place / "state", "--json"],
            env={"PATH": str(place / "no-programs"), "HOME": str(place)},
            capture_output=True,
            text=True,
            check=False,
            cwd=place,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    return call


def test_without_a_compiler_the_wheel_calibrates_and_says_with_what(bare_agent):
    bare_agent("calibrate", "--budget", "2s")
    status = bare_agent("status")
    known = status["kept"] or status["calibration"]  # so few timings need not show a gain
    assert known["toolchain"]["kind"] == "prebuilt"

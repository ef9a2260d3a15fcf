"""What onnxruntime does beside its work, looked at from outside its processes."""

import contextlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent.bundle import probe as probing
from agent.bundle.bundle import default_bundle, load_bundle
from tests.conftest import SIZES, agent, environment

ROOT = Path(__file__).parents[3]
FIRST_REPORT_S = 12  # onnxruntime 1.32 first looks its server up 9 s after the import
USE = f"""
import numpy, time
from agent.bundle.bundle import default_bundle, load_bundle
from agent.bundle.encoder import Encoder
bundle = load_bundle(default_bundle())
Encoder(bundle).embed(numpy.array(bundle.golden[0], numpy.float32))
time.sleep({FIRST_REPORT_S})
"""
ABOUT_ITSELF = """
import os
import numpy.random, agent.bundle.encoder
threads = len(os.listdir("/proc/self/task"))
at = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
print(threads, sorted(os.readlink(path) for path in at if os.path.exists(path)))
"""


@pytest.fixture
def watched(tmp_path) -> dict[str, str]:
    """The environment of a process in an empty home, whose calls of the network are recorded."""
    if (compiler := shutil.which("gcc") or shutil.which("cc")) is None:
        pytest.skip("no C compiler")
    made = tmp_path / "network.so"
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror"]
    source = Path(__file__).with_name("network.c")
    subprocess.run([compiler, *flags, "-o", made, source, "-ldl"], check=True)
    (tmp_path / "home").mkdir()
    places = {"HOME": str(tmp_path / "home"), "NETWORK_LOG": str(tmp_path / "log")}
    return {**places, "LD_PRELOAD": str(made)}


def asked(watched) -> set[str]:
    """What was asked of the network by the processes watched, of which there was one at least."""
    lines = set(Path(watched["NETWORK_LOG"]).read_text().splitlines())
    assert "loaded " in lines
    return lines - {"loaded "}


def left_at_home(watched) -> list[Path]:
    return list(Path(watched["HOME"]).rglob("*"))


def test_the_recorder_records(watched):
    code = "import socket; socket.create_connection(('localhost', 1))"
    command = [sys.executable, "-c", code]
    subprocess.run(command, env=environment(**watched), capture_output=True)
    assert asked(watched) == {"getaddrinfo localhost", "socket ", "connect "}


def test_commands_leave_nothing_at_home_and_ask_nothing_of_the_network(
    watched, gemm, tiny_bundle, tmp_path
):
    to = ("--state-dir", tmp_path / "state")
    predict = (
        "predict",
        gemm,
        *SIZES,
        "--no-run",
        "--schedule",
        "original",
        "--bundle",
        tiny_bundle,
        *to,
    )
    for command in (predict, ("bundle", "show", "built-in", *to), ("bundle", "list", *to)):
        ran = agent(*command, **watched)
        assert ran.code == 0, ran.err
    assert left_at_home(watched) == []
    assert asked(watched) == set()


def test_a_process_that_lives_on_after_its_work_asks_nothing_of_the_network(watched):
    command = [sys.executable, "-c", USE]
    with contextlib.ExitStack() as ends:
        processes = [
            ends.enter_context(subprocess.Popen(command, env=given | watched, cwd=ROOT))
            for given in (environment(), dict(probing._environment()))
        ]
    assert [process.returncode for process in processes] == [0, 0]
    assert left_at_home(watched) == []
    assert asked(watched) == set()


def test_a_probe_leaves_nothing_at_home_and_asks_nothing_of_the_network(watched, monkeypatch):
    given = {**probing._environment(), **watched}
    monkeypatch.setattr(probing, "_environment", lambda: given)
    assert probing.probe(load_bundle(default_bundle())) < 1e-4
    assert left_at_home(watched) == []
    assert asked(watched) == set()


def test_in_the_child_no_thread_and_no_file_is_left_open_by_its_libraries(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", ABOUT_ITSELF],
        env=probing._environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    threads, files = done.stdout.split(" ", 1)
    assert threads == "1"
    assert re.fullmatch(r"\['/dev/null', '/dev/null', 'pipe:\[\d+\]'\]\n", files), files


def test_whoever_wants_reports_does_not_get_them(watched):
    code = "import agent.bundle.runtime, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    given = environment(ORT_DISABLE_TELEMETRY="0", **watched)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=given, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
    assert left_at_home(watched) == []


def test_nothing_but_one_module_imports_onnxruntime():
    statement = re.compile(r"^\s*(import|from) onnxruntime\b", re.MULTILINE)
    files = [
        x for folder in ("agent", "bundles", "benchmarks") for x in ROOT.glob(f"{folder}/**/*.py")
    ]
    found = {x.relative_to(ROOT).as_posix() for x in files if statement.search(x.read_text())}
    assert found == {"agent/bundle/runtime.py"}

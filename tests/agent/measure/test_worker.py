import os
import time
from pathlib import Path

import pytest

from agent.errors import MeasureError
from agent.measure.worker import RefusedError, Worker, WorkerExitError, WorkerTimeoutError

READY = "echo '@0 ready 3 100' >/proc/self/fd/$1; "


def shell(script: str) -> Worker:
    """A worker played by a shell script; $1 is the descriptor of the answers."""
    return Worker(["/bin/sh", "-c", script, "sh"], {"PATH": os.environ["PATH"]})


def test_the_greeting_gives_the_clock_ticks() -> None:
    with shell(READY + "sleep 250") as worker:
        assert worker.ready() == 100


def test_another_protocol_is_refused() -> None:
    other = shell("echo '@0 ready 9 100' >/proc/self/fd/$1; sleep 250")
    with other as worker, pytest.raises(MeasureError, match="did not start"):
        worker.ready()


def test_a_worker_that_ends_at_once_is_refused_with_its_words() -> None:
    broken = shell("echo no such library >&2; exit 127")
    with broken as worker, pytest.raises(MeasureError, match="no such library"):
        worker.ready()


def test_a_worker_that_cannot_be_started_is_refused() -> None:
    with pytest.raises(MeasureError, match="cannot start"):
        Worker([Path("/no/such/worker")], {})


def test_garbage_is_ignored_and_counted() -> None:
    script = (
        READY + r"read c; printf 'hello\n@7 ok\n\377\376\n\n@1 ok 5\n' >/proc/self/fd/$1; sleep 250"
    )
    with shell(script) as worker:
        worker.ready()
        assert worker.ask("anything", 60) == ["ok", "5"]
        assert worker.garbage == 4


def test_an_endless_stream_of_garbage_ends_the_worker() -> None:
    with shell(READY + "cat /dev/zero >/proc/self/fd/$1") as worker:
        worker.ready()
        with pytest.raises(WorkerExitError):
            worker.ask("anything", 120)


def test_an_error_answer_is_raised_with_its_words() -> None:
    with shell(READY + "read c; echo '@1 error not today' >/proc/self/fd/$1; sleep 250") as worker:
        worker.ready()
        with pytest.raises(RefusedError, match="not today"):
            worker.ask("anything", 60)


def test_a_silent_worker_is_killed_when_its_time_is_up() -> None:
    with shell(READY + "exec sleep 250") as worker:
        worker.ready()
        started = time.monotonic()
        with pytest.raises(WorkerTimeoutError):
            worker.ask("anything", 0.2)
        assert time.monotonic() - started < 100


def test_death_tells_the_exit_status_and_the_last_words() -> None:
    with shell(READY + "read c; echo out of cheese >&2; exit 9") as worker:
        worker.ready()
        with pytest.raises(WorkerExitError) as caught:
            worker.ask("anything", 60)
    assert (caught.value.status, caught.value.slot) == (9, -1)
    assert caught.value.words == "out of cheese"


def test_children_of_the_worker_are_killed_too(tmp_path: Path) -> None:
    with shell(f"sleep 250 & echo $! > {tmp_path}/pid; {READY} wait") as worker:
        worker.ready()
    pid = int((tmp_path / "pid").read_text())
    for _ in range(3000):
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().split(") ")[1].startswith("Z"):
            return
        time.sleep(0.02)
    pytest.fail("the child is still running")


def test_no_descriptor_is_left_open() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with shell(READY + "sleep 250") as worker:
            worker.ready()
    assert len(list(Path("/proc/self/fd").iterdir())) == before

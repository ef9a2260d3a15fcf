import json
from pathlib import Path

import pytest

from agent.measure.machine import read_machine


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def test_this_machine_has_plausible_facts() -> None:
    machine = read_machine()
    assert machine.cpus
    assert 1 <= machine.threads <= len(machine.cpus) <= machine.cpus_online
    assert machine.memory_bytes >= machine.available_bytes > 0
    assert machine.page_bytes >= 4096


def test_the_facts_are_plain_values() -> None:
    assert json.loads(json.dumps(read_machine().to_json()))["threads"] >= 1


def test_nothing_fails_where_every_file_is_missing(tmp_path: Path) -> None:
    machine = read_machine(tmp_path)
    assert machine.caches == {}
    assert machine.quota is None
    assert machine.model == ""
    assert machine.memory_bytes > 0


def test_caches_are_read_and_instruction_caches_left_out(tmp_path: Path) -> None:
    cpu = read_machine().cpus[0]
    for index, (level, kind, size) in enumerate(
        [("1", "Data", "48K"), ("1", "Instruction", "32K"), ("3", "Unified", "32M")]
    ):
        folder = f"sys/devices/system/cpu/cpu{cpu}/cache/index{index}"
        write(tmp_path, f"{folder}/level", level)
        write(tmp_path, f"{folder}/type", kind)
        write(tmp_path, f"{folder}/size", size)
    assert read_machine(tmp_path).caches == {1: 48 << 10, 3: 32 << 20}


@pytest.mark.parametrize(
    ("text", "quota"), [("50000 100000", 0.5), ("max 100000", None), ("garbage", None)]
)
def test_the_cgroups_quota_is_read(tmp_path: Path, text: str, quota: float | None) -> None:
    write(tmp_path, "proc/self/cgroup", "0::/a/b\n")
    write(tmp_path, "sys/fs/cgroup/a/cpu.max", text)
    machine = read_machine(tmp_path)
    assert machine.quota == quota
    assert machine.threads == (1 if quota else len(machine.cpus))


def test_the_cgroups_memory_limits_what_is_available(tmp_path: Path) -> None:
    write(tmp_path, "proc/meminfo", "MemTotal: 8000 kB\nMemAvailable: 6000 kB\n")
    write(tmp_path, "sys/fs/cgroup/memory.max", str(4000 << 10))
    write(tmp_path, "sys/fs/cgroup/memory.current", str(1000 << 10))
    machine = read_machine(tmp_path)
    assert (machine.memory_bytes, machine.available_bytes) == (4000 << 10, 3000 << 10)


def test_serial_programs_run_on_the_last_cpu() -> None:
    machine = read_machine()
    assert machine.pinning_order()[0] == machine.cpus[-1]
    assert len(machine.pinning_order()) == machine.threads


def test_a_file_with_odd_bytes_is_tolerated(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_bytes(b"\xff\xfe\x00flags")
    (tmp_path / "proc/loadavg").write_bytes(b"\xff")
    assert read_machine(tmp_path).load == 0.0

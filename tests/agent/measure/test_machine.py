import json
from dataclasses import replace
from pathlib import Path

import pytest

from agent.measure.machine import of_one_kind, read_machine


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


V1 = """
9:memory:/system.slice/agent.service
4:cpu,cpuacct:/system.slice/agent.service
0::/system.slice/agent.service
"""
MOUNTS = """
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""


def test_limits_of_version_1_are_read_at_the_own_path_and_above(tmp_path: Path) -> None:
    write(tmp_path, "proc/self/cgroup", V1)
    write(tmp_path, "proc/self/mountinfo", MOUNTS)
    write(tmp_path, "proc/meminfo", "MemTotal: 8000 kB\nMemAvailable: 6000 kB\n")
    slice_, own = "system.slice", "system.slice/agent.service"
    write(tmp_path, f"sys/fs/cgroup/cpu,cpuacct/{own}/cpu.cfs_quota_us", "50000")
    write(tmp_path, f"sys/fs/cgroup/cpu,cpuacct/{own}/cpu.cfs_period_us", "100000")
    write(tmp_path, "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1")
    write(tmp_path, "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000")
    write(tmp_path, f"sys/fs/cgroup/memory/{own}/memory.limit_in_bytes", str(2**63 - 4096))
    write(tmp_path, f"sys/fs/cgroup/memory/{slice_}/memory.limit_in_bytes", str(4000 << 10))
    write(tmp_path, f"sys/fs/cgroup/memory/{slice_}/memory.usage_in_bytes", str(1000 << 10))
    machine = read_machine(tmp_path)
    assert machine.quota == 0.5
    assert (machine.memory_bytes, machine.available_bytes) == (4000 << 10, 3000 << 10)


def test_in_a_container_the_mounted_part_is_its_own(tmp_path: Path) -> None:
    write(tmp_path, "proc/self/cgroup", "0::/docker/abc/job\n")
    mount = "41 31 0:38 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup2 rw"
    write(tmp_path, "proc/self/mountinfo", mount)
    write(tmp_path, "sys/fs/cgroup/job/cpu.max", "150000 100000")
    assert read_machine(tmp_path).quota == 1.5


def test_what_cannot_be_read_is_told_as_unknown(tmp_path: Path) -> None:
    assert {"model", "level", "caches", "cpus_online"} <= set(read_machine(tmp_path).unknown)
    assert read_machine().model == "" or "model" not in read_machine().unknown


def test_serial_programs_run_on_the_last_cpu() -> None:
    machine = read_machine()
    assert machine.pinning_order()[0] == machine.cpus[-1]
    assert len(machine.pinning_order()) == machine.threads


def test_another_cpu_can_be_the_one_for_serial_programs() -> None:
    machine = replace(read_machine(), cpus=(0, 1, 2), threads=2)
    assert machine.serial_on(1).pinning_order() == (1, 2)


@pytest.mark.parametrize(("other", "alike"), [("3200000", True), ("2400000", False)])
def test_cpus_of_different_kinds_are_told_apart(tmp_path: Path, other: str, alike: bool) -> None:
    for cpu, frequency in enumerate(("3200000", other)):
        place = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/cpufreq"
        place.mkdir(parents=True)
        (place / "cpuinfo_max_freq").write_text(f"{frequency}\n")
    assert of_one_kind((0, 1), tmp_path) is alike
    assert of_one_kind((0, 1), tmp_path / "nothing-told")


def test_a_file_with_odd_bytes_is_tolerated(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_bytes(b"\xff\xfe\x00flags")
    (tmp_path / "proc/loadavg").write_bytes(b"\xff")
    assert read_machine(tmp_path).load == 0.0

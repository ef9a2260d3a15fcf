"""What the agent talks to: systemd's timers, the repository of bundles, the centre's reports."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from agent.doctor.findings import Finding, needs_person, ok, problem, warning
from agent.doctor.scene import Scene
from agent.errors import AgentError, UnreachableError
from agent.settings.answers import job_s, longer
from agent.settings.config import Config
from agent.terminal.numbers import Count

JOBS = ("update", "calibrate", "report")
LIMIT_S = 1.0
_SPANS = {
    "y": 31_557_600.0, "month": 2_629_800.0, "w": 604_800.0, "d": 86_400.0, "h": 3600.0,
    "min": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6,
}  # fmt: skip
_REFUSALS = {  # what the centre made of the last report, where it does not take such
    "denied": (
        "the centre does not let this machine report",
        "Ask central staff for a token or a certificate: report_token_file, report_client_cert.",
    ),
    "refused": (
        "the centre refused the last report for good",
        "Tell central staff: agent and centre may be of different ages (`agent report --show`).",
    ),
}
LARGEST = 64 << 10  # of the one small file that is asked for
_SHOWN = (
    "Id,LoadState,ActiveState,UnitFileState,Result,NextElapseUSecRealtime,LastTriggerUSec,"
    "TimeoutStartUSec"
)


def timers(scene: Scene) -> Iterator[Finding]:
    """Whether systemd starts the jobs, and how each ended the last time."""
    by_hand = "no timers: run `agent calibrate` by hand or from cron"
    if not Path("/run/systemd/system").is_dir():
        yield ok("timers", f"systemd is not running here; {by_hand}")
        return
    try:
        units = _units()
    except AgentError as error:  # no message bus for this user: no fault of the agent's
        yield warning("timers", error.message, error.hint)
        return
    installed = [j for j in JOBS if units.get(_unit(j, "timer"), {}).get("LoadState") == "loaded"]
    if not installed:
        yield ok("timers", by_hand)
    for job in installed:
        service = units.get(_unit(job, "service"), {})
        yield from _timer(job, units[_unit(job, "timer")], service)
        if job == "calibrate":
            yield from _time_enough(service, scene.config)


def _unit(job: str, kind: str) -> str:
    return f"calibration-agent-{job}.{kind}"


def _units() -> dict[str, dict[str, str]]:
    """What systemd says of our units, by name; AgentError where it does not answer."""
    names = [_unit(job, kind) for job in JOBS for kind in ("timer", "service")]
    command = ["systemctl", "show", "--no-pager", f"--property={_SHOWN}", *names]
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LIMIT_S, check=False, env=environment
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AgentError("systemctl does not answer", "Run `systemctl list-timers`.") from error
    return parse_units(done.stdout)


def parse_units(text: str) -> dict[str, dict[str, str]]:
    """The answer of ``systemctl show``: a block of KEY=VALUE lines a unit, by ``Id``."""
    blocks = [dict(line.split("=", 1) for line in b.splitlines() if "=" in line)
              for b in text.split("\n\n")]  # fmt: skip
    return {block["Id"]: block for block in blocks if "Id" in block}


def _timer(job: str, timer: dict[str, str], service: dict[str, str]) -> Iterator[Finding]:
    name = _unit(job, "timer")
    if service.get("ActiveState") == "failed":
        words = f"{_unit(job, 'service')} failed the last time ({service.get('Result')})"
        yield problem("timers", words, f"See `journalctl -u {_unit(job, 'service')} -n 30`.")
    if timer.get("ActiveState") != "active":
        words = f"{name} is not started"
        yield warning("timers", words, f"Run `sudo systemctl enable --now {name}`.")
    else:
        coming = timer.get("NextElapseUSecRealtime") or "when its job has ended"
        yield ok("timers", f"{name}: next {coming}")


def _time_enough(service: dict[str, str], config: Config) -> Iterator[Finding]:
    """A job that is ended while it waits for a quiet machine would be so for ever."""
    limit = parse_span(service.get("TimeoutStartUSec", ""))
    if limit is not None and job_s(config) > limit:
        words = (
            f"systemd ends the job {_unit('calibrate', 'service')} after "
            f"{service['TimeoutStartUSec']}, but quiet_wait and budget may need more"
        )
        yield warning("timers", words, f"Raise that: {longer(config)}; or lower quiet_wait.")


def parse_span(text: str) -> float | None:
    """Seconds of a time span as systemd shows it (``1h 30min``); None: endless, or not said."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(y|month|w|d|h|min|s|ms|us)(?= |$)", text)
    return sum(float(number) * _SPANS[unit] for number, unit in parts) if parts else None


def repository(scene: Scene) -> Iterator[Finding]:
    """Whether the centre answers within a second, and whether its root was placed here."""
    if scene.config.repository is None:
        yield ok("repository", "none is configured; bundles come with the agent")
        return
    from dataclasses import replace

    from agent.update.source import LIMITS, open_source

    yield from _root(scene.config.trusted_root)
    limits = replace(LIMITS, connect_s=LIMIT_S, read_s=LIMIT_S, whole_s=LIMIT_S)
    try:
        source = open_source(scene.config.repository, limits)
        source.download_bytes(f"{source.metadata_url}/timestamp.json", LARGEST)
    except UnreachableError as error:
        stick = "An offline machine can take bundles from a USB stick (`agent update --from DIR`)."
        yield warning("repository", error.message, f"{error.hint} {stick}".strip())
    except AgentError as error:
        yield problem("repository", error.message, error.hint)
    else:
        yield ok("repository", f"{source.name} answers")


def _root(path: Path) -> Iterator[Finding]:
    advice = "Put the root.json that the centre gives out there, or set trusted_root."
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        yield problem("repository", f"the trusted root {path}: {error.strerror}", advice)


def reporting(scene: Scene) -> Iterator[Finding]:
    """Whether anything is sent, whether it can be, and whether it waits for long."""
    from agent.report.consent import consent_of

    config, state = scene.config, scene.state
    if state is None or not consent_of(config, state).on:
        yield ok("reporting", "off: nothing is sent")
        return
    if config.report_to is None:
        words = "on, but no centre is configured"
        yield warning("reporting", words, "Set report_to, or use `agent report --export FILE`.")
        return
    from agent.report.flow import retry_of
    from agent.report.sender import destination_of

    try:
        name = destination_of(config).name
    except AgentError as error:
        yield problem("reporting", error.message, error.hint)
        return
    yield ok("reporting", f"on, to {name}")
    retry, waiting = retry_of(state), Count(len(state.spooled()))
    if retry.why in _REFUSALS:
        words, advice = _REFUSALS[retry.why]
        yield needs_person("reporting", f"{words}; {waiting:report} waiting here", advice)
    elif retry.failures > 1:
        words = f"sending failed {retry.failures} times in a row; {waiting:report} waiting here"
        yield warning("reporting", words, "Run `agent report --now`: it says why.")

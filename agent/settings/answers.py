"""The answers of `agent config`: what is set, where, and what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from agent.errors import AgentError
from agent.settings.config import SETTINGS, Config
from agent.settings.resolve import Resolved
from agent.settings.values import HOUR, MINUTE, in_units, meant

_PASSWORD = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_OURS, _NO_SETTING = "AGENT_", "AGENT_CONFIG"
JOB_LIMIT_S, JOB_REST_S = HOUR, 5 * MINUTE  # of systemd's unit; what besides waiting takes time


def settings_shown(resolved: Resolved) -> dict[str, object]:
    """Every setting with its value, where it comes from and its default."""
    return {
        "settings": [_entry(resolved, name) for name in SETTINGS],
        "files": [str(path) for path in resolved.files],
        "problems": [_problem(error) for error in resolved.problems],
    }


def _entry(resolved: Resolved, name: str) -> dict[str, object]:
    given, setting = resolved.given[name], SETTINGS[name]
    origin = {"kind": given.kind, "name": given.origin, "line": given.line}
    return {
        "name": name,
        "value": _plain(given.value),
        "origin": origin,
        "default": setting.default,
        "words": setting.words,
    }


def _plain(text: str) -> str:
    """Without the password of a URL, and without what a terminal or JSON could not carry."""
    return _PASSWORD.sub("...", text).encode("utf-8", "backslashreplace").decode()


def mistakes_found(resolved: Resolved, environment: Mapping[str, str]) -> dict[str, object]:
    """Every mistake, and what is probably one."""
    found = [_problem(error) for error in resolved.problems]
    found += [{"message": m, "hint": h} for m, h in contradictions(resolved.config)]
    return {
        "files": [str(path) for path in resolved.files],
        "problems": found,
        "notes": [*_misspelt(environment), *_doubts(resolved.config)],
    }


def contradictions(config: Config) -> list[tuple[str, str]]:
    """Settings that make no sense together: what is wrong, and what to do."""
    found = []
    if config.report_client_key is not None and config.report_client_cert is None:
        hint = "Set report_client_cert too, or remove the key."
        found.append(("report_client_key is set without report_client_cert", hint))
    for name in ("repository", "report_to"):
        if _goes_unprotected(getattr(config, name) or ""):
            words = f"{name} begins with http://, which is used with this machine itself only"
            found.append((words, "Write https://."))
    return found


def _goes_unprotected(place: str) -> bool:
    """Plain http to another machine: what ``agent.web`` refuses when it is used."""
    try:
        url = urlsplit(place)
        host = url.hostname or ""
        itself = host == "localhost" or ip_address(host).is_loopback
    except ValueError:  # a name, which is not this machine's
        itself = False
    return place.lower().startswith("http://") and not itself


def job_s(config: Config) -> float:
    """Seconds that the hourly job may need: it waits for a quiet machine, then measures."""
    return config.quiet_wait_s + config.budget_s + JOB_REST_S


def longer(config: Config) -> str:
    """How systemd is told to give the job that time."""
    limit = in_units(-(-job_s(config) // HOUR) * HOUR)
    return (
        "`sudo systemctl edit calibration-agent-calibrate`, there `[Service]` and "
        f"`TimeoutStartSec={limit}`"
    )


def _doubts(config: Config) -> Iterator[str]:
    """What can be meant so: reports may be carried, and a unit may have been given more time."""
    if config.report and config.report_to is None:
        yield (
            "report is on, but report_to says no address: nothing is sent. "
            "`agent report --export FILE` writes what can be carried to the centre."
        )
    if job_s(config) > JOB_LIMIT_S:
        wait, budget = in_units(config.quiet_wait_s), in_units(config.budget_s)
        yield (
            f"quiet_wait ({wait}) and budget ({budget}) may need more than the "
            f"{in_units(JOB_LIMIT_S)} after which systemd ends the job. Raise that: "
            f"{longer(config)}; or lower quiet_wait."
        )


def _problem(error: AgentError) -> dict[str, str]:
    return {"message": _plain(error.message), "hint": _plain(error.hint)}


def _misspelt(environment: Mapping[str, str]) -> list[str]:
    """Variables that are nearly one of ours; any others are somebody else's."""
    ours = [setting.variable for setting in SETTINGS.values()]
    names = sorted(n for n in environment if n.startswith(_OURS) and n not in (*ours, _NO_SETTING))
    near = {name: meant(name.removeprefix(_OURS), tuple(SETTINGS)).rstrip() for name in names}
    return [
        f"the variable {_plain(name)[:80]} is not used. {words}"
        for name, words in near.items()
        if words
    ]

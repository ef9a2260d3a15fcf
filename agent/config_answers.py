"""The answers of `agent config`: what is set, where, and what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from agent.config import KEYS, SETTINGS, Config, Resolved
from agent.errors import AgentError
from agent.values import meant

_PASSWORD = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_OURS, _NO_SETTING = "AGENT_", "AGENT_CONFIG"
_NEEDED_TO_REPORT = "Set report_to to the address that the centre gave out, or report to off."


def show(resolved: Resolved) -> dict[str, Any]:
    """Every setting with its value, where it comes from and its default."""
    return {
        "settings": [_entry(resolved, key) for key in KEYS],
        "files": [str(path) for path in resolved.files],
        "problems": [_problem(error) for error in resolved.problems],
    }


def _entry(resolved: Resolved, key: str) -> dict[str, Any]:
    given = resolved.given[key]
    setting = next(s for s in SETTINGS if s.name == key)
    origin = {"kind": given.kind, "name": given.origin, "line": given.line}
    return {
        "name": key,
        "value": _plain(given.value),
        "origin": origin,
        "default": setting.default,
        "words": setting.words,
    }


def _plain(text: str) -> str:
    """Without the password of a URL, and without what a terminal or JSON could not carry."""
    return _PASSWORD.sub("...", text).encode("utf-8", "backslashreplace").decode()


def check(resolved: Resolved, environment: Mapping[str, str]) -> dict[str, Any]:
    """Every mistake, and what is probably one."""
    found = [_problem(error) for error in resolved.problems]
    found += [{"message": m, "hint": h} for m, h in contradictions(resolved.config)]
    return {
        "files": [str(path) for path in resolved.files],
        "problems": found,
        "notes": _misspelt(environment),
    }


def contradictions(config: Config) -> list[tuple[str, str]]:
    """Settings that make no sense together: what is wrong, and what to do."""
    found = []
    if config.report and config.report_to is None:
        found.append(("report is on, but report_to says no address", _NEEDED_TO_REPORT))
    if config.report_client_key is not None and config.report_client_cert is None:
        hint = "Set report_client_cert too, or remove the key."
        found.append(("report_client_key is set without report_client_cert", hint))
    return found


def _problem(error: AgentError) -> dict[str, str]:
    return {"message": _plain(error.message), "hint": _plain(error.hint)}


def _misspelt(environment: Mapping[str, str]) -> list[str]:
    """Variables that are nearly one of ours; any others are somebody else's."""
    ours = [setting.variable for setting in SETTINGS]
    names = sorted(n for n in environment if n.startswith(_OURS) and n not in (*ours, _NO_SETTING))
    near = {name: meant(name.removeprefix(_OURS), KEYS).rstrip() for name in names}
    return [
        f"the variable {_plain(name)[:80]} is not used. {words}"
        for name, words in near.items()
        if words
    ]

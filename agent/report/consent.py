"""Whether this machine reports: what the site says, what its people say; the stricter wins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from agent.errors import InputError

if TYPE_CHECKING:
    from agent.settings.config import Config
    from agent.state.state import State

CONSENT = "report-consent"  # the fact: what was said on this machine


@dataclass(frozen=True, slots=True)
class Consent:
    """Whether reports are made and sent, and who decided it."""

    on: bool
    by: Literal["site", "machine", "nobody"]


def consent_of(config: Config, state: State) -> Consent:
    """Whether this machine reports now."""
    return weighed(config.report, state.fact(CONSENT))


def weighed(site: bool | None, machine: Mapping[str, object] | None) -> Consent:
    """The decision: a no stands, whoever said it; without any yes it is off.

    Args:
        site: the setting ``report``; None: not set.
        machine: the fact that ``agent report enable`` and ``disable`` leave; None: neither was run.
    """
    if site is False:
        return Consent(False, "site")
    if machine is not None:
        return Consent(bool(machine.get("on")), "machine")
    return Consent(True, "site") if site else Consent(False, "nobody")


def check_site_allows(config: Config) -> None:
    """InputError where the site does not let this machine's people switch reporting on."""
    if config.report is False:
        raise InputError(
            "reporting is switched off by the configuration of this site",
            "`report = false` there cannot be overruled here; ask whoever keeps it.",
        )


def give_consent(config: Config, state: State) -> None:
    """The people at this machine agree; InputError where the site does not."""
    check_site_allows(config)
    state.remember(CONSENT, {"on": True})


def withdraw_consent(state: State) -> int:
    """The people at this machine refuse; what waited to be sent is dropped: how many reports."""
    state.remember(CONSENT, {"on": False})
    waiting = state.spooled()
    state.unspool([key for key, _ in waiting])
    return len(waiting)

"""Asks the centre's fleet what it thinks of a bundle, before stable machines get it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import requests
from urllib3.exceptions import HTTPError

from agent.errors import AgentError, Exit, InputError, UnreachableError
from agent.report.payload import LONGEST_NAME, LONGEST_VERSION, plain_name
from bundles.repository.channel import Listed
from bundles.repository.http_body import AS_IS, read_body

MAX_ANSWER = 64 << 10
WITHIN_S = (10, 30)
FORCE = "Wait, or add --force if you know better."
OTHER_LIMITS = (
    "Wait for what is missing, or judge by other limits (`bundles fleet serve --judge-from`); "
    "--force goes against it."
)


class AgainstError(AgentError):
    """The fleet advises against what was asked for."""

    exit_code = Exit.PROBLEM


@dataclass(frozen=True)
class _Advice:
    """What a fleet says of a bundle: ``promote``, ``withdraw`` or else, and why."""

    verdict: str
    why: tuple[str, ...]


def require_promote(fleet: str, token_file: Path | None, bundle: Listed) -> None:
    """Go on only where the fleet's verdict on a bundle of pilot is to promote it.

    Args:
        fleet: its URL; https, or http on this machine.
        token_file: holds a staff token (``bundles fleet token add NAME --kind staff``).
        bundle: as the repository lists it.

    Raises:
        AgainstError: it is another one.
        InputError: the URL or token cannot be used.
        UnreachableError: no answer, or none that can be understood.
    """
    found = _ask(fleet, token_file, bundle)
    if found.verdict == "promote":
        return
    begins = "withdraw it" if found.verdict == "withdraw" else "wait"
    raise AgainstError(
        f"the fleet says of {bundle.title}: {begins}. {' '.join(found.why)}", OTHER_LIMITS
    )


def _ask(fleet: str, token_file: Path | None, bundle: Listed) -> _Advice:
    query = {
        "bundle": plain_name(bundle.name, LONGEST_NAME),
        "version": plain_name(bundle.version, LONGEST_VERSION),
    }
    url = f"{_checked(fleet)}/v1/verdict?{urlencode(query)}"
    try:
        with requests.get(
            url, headers=_headers(token_file), timeout=WITHIN_S, allow_redirects=False, stream=True
        ) as answer:
            content = read_body(answer, MAX_ANSWER)
    except (requests.RequestException, HTTPError, OSError) as error:
        raise UnreachableError(f"the fleet at {fleet} does not answer", FORCE) from error
    except ValueError as error:
        words = f"what answers at {fleet} gives no verdict ({error})"
        raise UnreachableError(words, FORCE) from error
    if answer.status_code == 401:
        hint = "Give --fleet-token-file; `bundles fleet token add NAME --kind staff` makes one."
        raise InputError(f"the fleet at {fleet} does not know this token", hint)
    try:
        if answer.status_code != 200:
            raise ValueError("not a verdict")
        return _advice(json.loads(content))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        words = f"what answers at {fleet} gives no verdict (HTTP {answer.status_code})"
        raise UnreachableError(words, FORCE) from error


def _advice(found: Mapping[str, Iterable[object]]) -> _Advice:
    """What was answered; ValueError, KeyError or TypeError where it is no verdict."""
    if not isinstance(found["verdict"], str):
        raise ValueError("not a verdict")
    return _Advice(found["verdict"], tuple(map(str, found["why"])))


def _checked(fleet: str) -> str:
    parts = urlsplit(fleet)
    here = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if parts.scheme != "https" and not (parts.scheme == "http" and here):
        hint = "Write https://HOST (http:// for this machine itself only)."
        raise InputError(f"the fleet's URL {fleet!r} cannot be used", hint)
    return fleet.rstrip("/")


def _headers(token_file: Path | None) -> dict[str, str]:
    if token_file is None:
        return AS_IS
    try:
        token = token_file.read_text(errors="replace").strip()
    except OSError as error:
        raise InputError(f"{token_file}: {error.strerror}", "Give the token's file.") from error
    if not token.isascii() or not token.isprintable() or " " in token:
        raise InputError(f"{token_file} holds no token", "It has one line: the token.")
    return AS_IS | {"Authorization": f"Bearer {token}"}

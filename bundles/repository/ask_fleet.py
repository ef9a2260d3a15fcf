"""Asks the centre's fleet what it thinks of a bundle, before stable machines get it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import requests
from urllib3.exceptions import HTTPError

from agent.errors import AgentError, Exit, InputError, UnreachableError
from agent.report.payload import plain
from bundles.repository import plain_answer
from bundles.repository.channel import Listed

MAX_ANSWER = 64 << 10
WITHIN_S = (10, 30)
FORCE = "Wait, or add --force if you know better."


class AgainstError(AgentError):
    """The fleet advises against what was asked for."""

    exit_code = Exit.PROBLEM


def ask(fleet: str, token_file: Path | None, bundle: Listed) -> dict[str, Any]:
    """The fleet's verdict on a bundle of pilot.

    Args:
        fleet: its URL; https, or http on this machine.
        token_file: holds a staff token (``bundles fleet token add NAME --kind staff``).
        bundle: as the repository lists it.

    Raises:
        InputError: the URL or token cannot be used.
        UnreachableError: no answer, or none that can be understood.
    """
    query = {"bundle": plain(bundle.name, 64), "version": plain(bundle.version, 32)}
    url = f"{_checked(fleet)}/v1/verdict?{urlencode(query)}"
    try:
        with requests.get(
            url, headers=_headers(token_file), timeout=WITHIN_S, allow_redirects=False, stream=True
        ) as answer:
            content = plain_answer.content(answer, MAX_ANSWER)
    except (requests.RequestException, HTTPError, OSError) as error:
        raise UnreachableError(f"the fleet at {fleet} does not answer", FORCE) from error
    except ValueError as error:
        words = f"what answers at {fleet} gives no verdict ({error})"
        raise UnreachableError(words, FORCE) from error
    if answer.status_code == 401:
        hint = "Give --fleet-token-file; `bundles fleet token add NAME --kind staff` makes one."
        raise InputError(f"the fleet at {fleet} does not know this token", hint)
    try:
        found: dict[str, Any] = json.loads(content)
        if answer.status_code != 200 or not isinstance(found["verdict"], str):
            raise ValueError("not a verdict")
        return found | {"why": [str(words) for words in found["why"]]}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        words = f"what answers at {fleet} gives no verdict (HTTP {answer.status_code})"
        raise UnreachableError(words, FORCE) from error


def require_promote(found: dict[str, Any], bundle: Listed) -> None:
    """Raise AgainstError unless the verdict is to promote."""
    if found["verdict"] == "promote":
        return
    begins = "withdraw it" if found["verdict"] == "withdraw" else "wait"
    why = " ".join(found["why"])
    raise AgainstError(f"the fleet says of {bundle.title}: {begins}. {why}", FORCE)


def _checked(fleet: str) -> str:
    parts = urlsplit(fleet)
    here = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if parts.scheme != "https" and not (parts.scheme == "http" and here):
        hint = "Write https://HOST (http:// for this machine itself only)."
        raise InputError(f"the fleet's URL {fleet!r} cannot be used", hint)
    return fleet.rstrip("/")


def _headers(token_file: Path | None) -> dict[str, str]:
    if token_file is None:
        return plain_answer.HEADERS
    try:
        token = token_file.read_text(errors="replace").strip()
    except OSError as error:
        raise InputError(f"{token_file}: {error.strerror}", "Give the token's file.") from error
    if not token.isascii() or not token.isprintable() or " " in token:
        raise InputError(f"{token_file} holds no token", "It has one line: the token.")
    return plain_answer.HEADERS | {"Authorization": f"Bearer {token}"}

"""Passphrases of signing keys: where they come from, and what they open."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from agent.errors import AgentError, Exit, InputError

MAX_PEM = 16_384
SHORTEST = 8
TRIES = 3


class SigningKeyError(AgentError):
    """A signing key is missing, is another one, or its passphrase is not known."""

    exit_code = Exit.USAGE


class Passphrases:
    """Passphrases, from a file, else the environment, else the person; asked for when needed.

    Args:
        file: one passphrase a line (keys of several people have several); the first is for new
            keys.
        environment: where BUNDLES_PASSPHRASE may be.
        prompt: asks a person, without showing what is typed; None where nobody is there.
    """

    def __init__(
        self,
        file: Path | None = None,
        environment: Mapping[str, str] | None = None,
        prompt: Callable[[str], str] | None = None,
    ) -> None:
        self._file, self._environment, self._prompt = file, environment or {}, prompt
        self._said: list[bytes] = []

    def for_new(self, name: str) -> bytes:
        """The passphrase of a key about to be made.

        Raises:
            SigningKeyError: there is none, or it is too short.
        """
        if given := self._given():
            return _long_enough(given[0])
        if self._prompt is None:
            raise _nobody_to_ask(f"the new key {name} needs a passphrase")
        again = " (empty: as before)" if self._said else ""
        first = self._prompt(f"New passphrase of {name}{again}: ").encode()
        if not first and self._said:
            return self._said[-1]
        _long_enough(first)
        if self._prompt("Once more: ").encode() != first:
            raise SigningKeyError("the two passphrases differ", "Run the command again.")
        self._said.append(first)
        return first

    def open(self, pem: bytes, path: Path) -> Ed25519PrivateKey:
        """The private key in ``pem``, read from ``path``.

        Raises:
            SigningKeyError: it cannot be decrypted, or is no ed25519 key.
        """
        try:
            return _ed25519(load_pem_private_key(pem, None), path)
        except TypeError:
            pass  # it is encrypted
        except ValueError as error:
            raise no_key(path) from error
        for passphrase in self._to_try(path):
            with contextlib.suppress(ValueError):
                key = _ed25519(load_pem_private_key(pem, passphrase), path)
                if passphrase not in self._said:
                    self._said.append(passphrase)
                return key
        where = " in the file" if self._file else ""
        raise SigningKeyError(
            f"{path} cannot be decrypted: wrong passphrase{where}",
            "A passphrase file holds one passphrase a line; each is tried.",
        )

    def _to_try(self, path: Path) -> Iterable[bytes]:
        yield from (said for said in self._said if said)
        given = self._given()
        yield from given
        if given:
            return
        if self._prompt is None:
            raise _nobody_to_ask(f"{path} is encrypted")
        for _ in range(TRIES):
            yield self._prompt(f"Passphrase of {path}: ").encode()

    def _given(self) -> list[bytes]:
        if self._file is None:
            said = self._environment.get("BUNDLES_PASSPHRASE", "")
            return [said.encode()] if said else []
        try:
            lines = self._file.read_bytes()[:MAX_PEM].splitlines()
        except OSError as error:
            raise InputError(f"{self._file} cannot be read: {error.strerror}") from error
        if not any(lines):
            raise InputError(f"{self._file} holds no passphrase", "Write it on the first line.")
        return [line for line in lines if line]


def _long_enough(passphrase: bytes) -> bytes:
    if len(passphrase) < SHORTEST:
        raise SigningKeyError(
            f"a passphrase of {len(passphrase)} characters is too short",
            f"Use {SHORTEST} or more; five random words are good and can be remembered.",
        )
    return passphrase


def _nobody_to_ask(what: str) -> SigningKeyError:
    return SigningKeyError(
        f"{what}, and there is no terminal to ask on",
        "Give --passphrase-file FILE, or set BUNDLES_PASSPHRASE.",
    )


def no_key(path: Path) -> SigningKeyError:
    """The error of a file that holds something else."""
    return SigningKeyError(
        f"{path} is not an ed25519 key in PEM form", "Restore it from the copy kept elsewhere."
    )


def _ed25519(key: object, path: Path) -> Ed25519PrivateKey:
    if not isinstance(key, Ed25519PrivateKey):
        raise no_key(path)
    return key

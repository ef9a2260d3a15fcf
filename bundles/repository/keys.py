"""Signing keys: made, found where a person keeps them, loaded.

A key is a PEM file (PKCS #8, ed25519). Those of people are encrypted; the online key is not, since
a timer uses it, and only its owner may read it. The public half is in the repository's metadata,
with the name of its file, so that a key that is missing can be asked for by name.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.exceptions import KeyMismatchError
from securesystemslib.signer import CryptoSigner, Key, SSlibKey

from agent.system.refused import sync_directory
from bundles.repository.passphrases import MAX_PEM, Passphrases, SigningKeyError, no_key
from bundles.repository.pem import pem_of

FILE_FIELD = "x-bundles-file"  # in a public key: the name of the file of its private half
_NAME = re.compile(r"(?P<stem>[a-z]+)(?:-(?P<number>[1-9][0-9]{0,5}))?\.pem")


class Keyring:
    """Finds private keys by the name in their public half.

    Args:
        places: directories to look in, in this order.
        passphrases: for those that are encrypted.
    """

    def __init__(self, places: Sequence[Path], passphrases: Passphrases) -> None:
        self.places, self.passphrases = tuple(places), passphrases
        self._signers: dict[str, CryptoSigner] = {}
        self._unsaved: list[tuple[Path, bytes]] = []

    def signer(self, key: Key, role: str) -> CryptoSigner:
        """What signs for ``key``.

        Raises:
            SigningKeyError: its file is not there, is another key's, or cannot be opened; the
                message names the role that needs it and where it was looked for.
        """
        if key.keyid not in self._signers:
            self._signers[key.keyid] = self._load(key, role)
        return self._signers[key.keyid]

    def has(self, key: Key) -> bool:
        """Whether the file of ``key`` is there; it may still not open."""
        return key.keyid in self._signers or self._find(file_of(key)) is not None

    def make(self, name: str, place: Path, *, encrypted: bool) -> CryptoSigner:
        """Make a key, to be kept in ``place``/``name``: on disk once ``save`` has returned.

        Raises:
            SigningKeyError: such a file is there, or there is no passphrase for it.
        """
        _refuse_existing(place / name)
        passphrase = self.passphrases.for_new(name) if encrypted else None
        private = Ed25519PrivateKey.generate()
        made = CryptoSigner(private)
        public = made.public_key
        named = SSlibKey(
            public.keyid, public.keytype, public.scheme, public.keyval, {FILE_FIELD: name}
        )
        self._unsaved.append((place / name, pem_of(private, passphrase)))
        self._signers[public.keyid] = CryptoSigner(private, named)
        return self._signers[public.keyid]

    def save(self) -> None:
        """Write the keys made; call it when they have signed and before that is published.

        Raises:
            SigningKeyError: a file is there, or cannot be written.
        """
        while self._unsaved:
            path, pem = self._unsaved[0]
            _write(path, pem)
            del self._unsaved[0]

    def free_name(self, stem: str, known: Iterable[Key]) -> str:
        """``stem-N.pem`` with a number above every one known here."""
        names = {file_of(key) for key in known}
        for place in self.places:
            with contextlib.suppress(OSError):
                names.update(path.name for path in place.iterdir())
        numbers = [
            int(found["number"] or 1)
            for found in map(_NAME.fullmatch, names)
            if found and found["stem"] == stem
        ]
        return f"{stem}-{max(numbers, default=0) + 1}.pem"

    def _find(self, name: str) -> Path | None:
        return next((p / name for p in self.places if os.path.lexists(p / name)), None)

    def _load(self, key: Key, role: str) -> CryptoSigner:
        name = file_of(key)
        path = self._find(name)
        if path is None:
            raise missing(role, [name], self.places)
        private = self.passphrases.open(_read(path), path)
        try:
            assert isinstance(key, SSlibKey)  # noqa: S101  the only kind this centre makes
            return CryptoSigner(private, key)
        except KeyMismatchError as error:
            raise SigningKeyError(
                f"{path} is not the {role} key that the repository trusts",
                "Name the directory of the right one with --keys DIR.",
            ) from error


def file_of(key: Key) -> str:
    """The name of the file of a key's private half; its id where the metadata do not say."""
    name = str(key.unrecognized_fields.get(FILE_FIELD, ""))
    return name if _NAME.fullmatch(name) else f"{key.keyid[:16]}.pem"


def missing(role: str, names: Sequence[str], places: Sequence[Path]) -> SigningKeyError:
    """The error of keys that are not where they were looked for."""
    looked = ", ".join(map(str, places)) or "no directory"
    return SigningKeyError(
        f"signing {role} needs the key {' or '.join(names)}, which is not in {looked}",
        "Name the directory it is kept in, such as a USB stick, with --keys DIR.",
    )


def _read(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            state = os.fstat(descriptor)
            content = file.read(MAX_PEM)
    except OSError as error:
        raise SigningKeyError(f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(state.st_mode):
        raise no_key(path)
    if b"ENCRYPTED" not in content and state.st_mode & 0o077:
        raise SigningKeyError(
            f"{path} is not encrypted and others may read it (mode {state.st_mode & 0o777:04o})",
            f"Run `chmod 600 {path}`. If others had access, replace it: `bundles rotate-key`.",
        )
    return content


def _refuse_existing(path: Path) -> None:
    if os.path.lexists(path):
        raise SigningKeyError(
            f"{path} is there already, and a key is never replaced",
            "Move it away if nothing trusts it, or name another directory.",
        )


def _write(path: Path, content: bytes) -> None:
    _refuse_existing(path)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        sync_directory(path.parent)
    except OSError as error:
        raise SigningKeyError(f"the key {path} cannot be written: {error.strerror}") from error

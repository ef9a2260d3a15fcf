"""Signing keys: made, encrypted, found where a person keeps them, loaded.

A key is a PEM file (PKCS #8, ed25519). Those of people are encrypted; the online key is not, since
a timer uses it, and only its owner may read it. The public half is in the repository's metadata,
with the name of its file, so that a key that is missing can be asked for by name.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.exceptions import KeyMismatchError
from securesystemslib.signer import CryptoSigner, Key, SSlibKey

from agent.errors import AgentError, Exit, InputError
from bundles.repository.journal import sync_directory

FILE_FIELD = "x-bundles-file"  # in a public key: the name of the file of its private half
MAX_PEM = 16_384
SHORTEST = 8
TRIES = 3
# scrypt as OWASP advises for 16 MiB; more memory, and openssl would not read the file.
SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**14, 8, 5
_NAME = re.compile(r"(?P<stem>[a-z]+)(?:-(?P<number>[1-9][0-9]{0,5}))?\.pem")
_SEQUENCE, _INTEGER, _OCTETS = 0x30, 0x02, 0x04
# Object identifiers, as DER: RFC 8018 (PBES2), RFC 7914 section 7 (scrypt), AES-256-CBC.
_PBES2 = bytes.fromhex("06092a864886f70d01050d")
_SCRYPT = bytes.fromhex("06092b06010401da47040b")
_AES_256_CBC = bytes.fromhex("060960864801650304012a")


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
            raise _no_key(path) from error
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
        self._unsaved.append((place / name, _pem(private, passphrase)))
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


def _no_key(path: Path) -> SigningKeyError:
    return SigningKeyError(
        f"{path} is not an ed25519 key in PEM form", "Restore it from the copy kept elsewhere."
    )


def _ed25519(key: object, path: Path) -> Ed25519PrivateKey:
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(path)
    return key


def _read(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            state = os.fstat(descriptor)
            content = file.read(MAX_PEM)
    except OSError as error:
        raise SigningKeyError(f"{path} cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(state.st_mode):
        raise _no_key(path)
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


def _pem(key: Ed25519PrivateKey, passphrase: bytes | None) -> bytes:
    """PKCS #8, encrypted as openssl does with ``-scrypt``.

    cryptography writes PKCS #8 with 2,048 rounds of PBKDF2 and takes no other number: a quarter of
    a millisecond a guess. So the envelope is written here; cryptography and openssl both read it.
    """
    if passphrase is None:
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    salt, start = os.urandom(16), os.urandom(16)
    stretched = Scrypt(salt=salt, length=32, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P).derive(passphrase)
    padder = PKCS7(algorithms.AES.block_size).padder()
    plain = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    cipher = Cipher(algorithms.AES(stretched), modes.CBC(start)).encryptor()
    secret = cipher.update(padder.update(plain) + padder.finalize()) + cipher.finalize()
    costs = b"".join(map(_number, (SCRYPT_N, SCRYPT_R, SCRYPT_P, 32)))
    derivation = _der(_SEQUENCE, _SCRYPT + _der(_SEQUENCE, _der(_OCTETS, salt) + costs))
    encryption = _der(_SEQUENCE, _AES_256_CBC + _der(_OCTETS, start))
    method = _der(_SEQUENCE, _PBES2 + _der(_SEQUENCE, derivation + encryption))
    body = base64.encodebytes(_der(_SEQUENCE, method + _der(_OCTETS, secret)))
    label = b"ENCRYPTED PRIVATE KEY-----\n"
    return b"-----BEGIN " + label + body + b"-----END " + label


def _der(tag: int, content: bytes) -> bytes:
    length = len(content)
    size = bytes([length]) if length < 128 else bytes([0x81, length])
    return bytes([tag]) + size + content


def _number(value: int) -> bytes:
    return _der(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))

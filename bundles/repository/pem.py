"""An ed25519 key as a PEM file (PKCS #8), encrypted as openssl does with ``-scrypt``."""

from __future__ import annotations

import base64
import os

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

# scrypt as OWASP advises for 16 MiB; more memory, and openssl would not read the file.
SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**14, 8, 5
_SEQUENCE, _INTEGER, _OCTETS = 0x30, 0x02, 0x04
# Object identifiers, as DER: RFC 8018 (PBES2), RFC 7914 section 7 (scrypt), AES-256-CBC.
_PBES2 = bytes.fromhex("06092a864886f70d01050d")
_SCRYPT = bytes.fromhex("06092b06010401da47040b")
_AES_256_CBC = bytes.fromhex("060960864801650304012a")


def pem_of(key: Ed25519PrivateKey, passphrase: bytes | None) -> bytes:
    """The file's content; encrypted where there is a passphrase.

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

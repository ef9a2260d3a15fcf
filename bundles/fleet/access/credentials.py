"""Who may send and who may read: tokens, passwords, sessions. Only hashes are kept.

A token has 256 random bits, so SHA-256 is enough to hide it; a person's password gets argon2id.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import Literal, NamedTuple

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from sqlalchemy import Connection, delete, select, update
from sqlalchemy.exc import IntegrityError

from agent.errors import InputError
from bundles.fleet.storage.database import Database
from bundles.fleet.storage.schema import sessions, tokens, users

Kind = Literal["machine", "staff"]
SESSION_S = 12 * 3600
SHORTEST_PASSWORD = 12
_NAME = re.compile(r"[A-Za-z0-9._@+ -]{1,64}")
_HASHER = PasswordHasher()
_NOBODY = _HASHER.hash(secrets.token_hex())  # checked for unknown names: they take as long


class Token(NamedTuple):
    """A token as it may be listed."""

    name: str
    kind: str
    created_at: int
    revoked_at: int | None
    heard_week: int | None


def secret_digest(secret: str) -> bytes:
    """What is kept of a random secret."""
    return hashlib.sha256(secret.encode()).digest()


def add_token(database: Database, name: str, kind: Kind, now: int) -> str:
    """Make a token; the only time it is seen.

    Raises:
        InputError: the name is taken or cannot be one.
    """
    _check_name(name)
    secret = f"fleet-{kind}-{secrets.token_urlsafe(32)}"
    row = {"name": name, "kind": kind, "sha256": secret_digest(secret), "created_at": now}
    try:
        with database.writing() as connection:
            connection.execute(tokens.insert(), row)
    except IntegrityError as error:
        hint = "Choose another name; a revoked one stays taken, so that lists stay true."
        raise InputError(f"there is a token {name!r} already", hint) from error
    return secret


def revoke_token(database: Database, name: str, now: int) -> None:
    """Refuse a token from now on (a running centre looks every few seconds).

    Raises:
        InputError: there is none of that name.
    """
    with database.writing() as connection:
        found = connection.execute(
            update(tokens)
            .where(tokens.c.name == name, tokens.c.revoked_at.is_(None))
            .values(revoked_at=now)
        )
    if not found.rowcount:
        raise InputError(f"there is no token {name!r} in use", "See `bundles fleet token list`.")


def all_tokens(connection: Connection) -> list[Token]:
    """Every token, those revoked included, by name."""
    found = select(*(tokens.c[name] for name in Token._fields)).order_by(tokens.c.name)
    return [Token(*row) for row in connection.execute(found)]


def tokens_in_use(connection: Connection) -> dict[bytes, tuple[str, str]]:
    """Name and kind by SHA-256."""
    statement = select(tokens.c.sha256, tokens.c.name, tokens.c.kind)
    found = connection.execute(statement.where(tokens.c.revoked_at.is_(None)))
    return {bytes(sha256): (name, kind) for sha256, name, kind in found}


def set_password(database: Database, name: str, password: str) -> None:
    """Let a person sign in, or change how; ends the sessions they have.

    Raises:
        InputError: the name cannot be one, or the password is short.
    """
    _check_name(name)
    if not SHORTEST_PASSWORD <= len(password) <= 1024:
        hint = "A few random words are easy to keep."
        raise InputError(f"a password has {SHORTEST_PASSWORD} characters or more", hint)
    with database.writing() as connection:
        connection.execute(delete(users).where(users.c.name == name))
        connection.execute(users.insert(), {"name": name, "argon2": _HASHER.hash(password)})
        connection.execute(delete(sessions).where(sessions.c.name == name))


def all_users(connection: Connection) -> list[str]:
    """Everybody who signs in with a password, by name."""
    return list(connection.execute(select(users.c.name).order_by(users.c.name)).scalars())


def remove_user(database: Database, name: str) -> None:
    """End a person's sessions and their right to sign in; InputError where there is none."""
    with database.writing() as connection:
        connection.execute(delete(sessions).where(sessions.c.name == name))
        found = connection.execute(delete(users).where(users.c.name == name))
    if not found.rowcount:
        raise InputError(f"there is no user {name!r}", "Names are as they were given, case too.")


def password_is(connection: Connection, name: str, password: str) -> bool:
    """Whether a person may sign in; takes as long for names that nobody has."""
    wanted = select(users.c.argon2).where(users.c.name == name)
    # PostgreSQL would refuse to be asked for a NUL.
    kept = connection.execute(wanted).scalar() if _NAME.fullmatch(name) else None
    try:
        return _HASHER.verify(kept or _NOBODY, password) and kept is not None
    except (VerifyMismatchError, InvalidHashError):
        return False


def mark(connection: Connection, name: str, nonce: str) -> str:
    """What only a browser in which ``name`` signed in can show; another with a new password."""
    wanted = select(users.c.argon2).where(users.c.name == name)
    kept = connection.execute(wanted).scalar() if _NAME.fullmatch(name) else None
    key = str(kept or _NOBODY).encode()
    return hmac.new(key, f"known\n{name}\n{nonce}".encode(), "sha256").hexdigest()


def start_session(database: Database, name: str, now: int) -> str:
    """A new session's secret; sessions that ended are cleared away."""
    secret = secrets.token_urlsafe(32)
    row = {"sha256": secret_digest(secret), "name": name, "ends_at": now + SESSION_S}
    with database.writing() as connection:
        connection.execute(delete(sessions).where(sessions.c.ends_at <= now))
        connection.execute(sessions.insert(), row)
    return secret


def session_of(connection: Connection, secret: str, now: int) -> str | None:
    """Whose session it is; None where it ended or never was."""
    wanted = sessions.c.sha256 == secret_digest(secret), sessions.c.ends_at > now
    return connection.execute(select(sessions.c.name).where(*wanted)).scalar()


def end_session(database: Database, secret: str) -> None:
    """Forget a session."""
    with database.writing() as connection:
        connection.execute(delete(sessions).where(sessions.c.sha256 == secret_digest(secret)))


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        hint = "Use 1 to 64 letters, digits, blanks and . _ @ + -"
        raise InputError(f"{name!r} cannot be a name", hint)

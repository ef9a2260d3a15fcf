"""Runs a centre with uvicorn. No access log: nobody's address is written anywhere."""

from __future__ import annotations

import contextlib
import resource
import socket

import uvicorn

from agent.errors import InputError
from agent.terminal.console import note
from bundles.fleet.app import application
from bundles.fleet.connection import REFUSED_AT_ONCE, Connection
from bundles.fleet.settings import CentreSettings
from bundles.fleet.storage.database import open_database

MOST_CONNECTIONS = 10_000
OTHER_FILES = 100  # the database's, and those of a release
IDLE_S = 75
ENDS_WITHIN_S = 20


def run_centre(settings: CentreSettings, host: str, port: int) -> None:
    """Serve until Ctrl-C or SIGTERM; reports that wait are written first.

    Raises:
        DatabaseError: the database cannot be used.
        InputError: the address cannot be listened on.
    """
    database = open_database(settings.database)
    try:
        with _listening(host, port) as listening:
            here = f"[{host}]" if ":" in host else host
            note(f"Fleet at http://{here}:{listening.getsockname()[1]} (stop with Ctrl-C)")
            config = uvicorn.Config(
                application(database, settings),
                http=Connection,
                ws="none",
                access_log=False,
                log_level="warning",
                lifespan="on",
                server_header=False,
                proxy_headers=False,
                limit_concurrency=_most_connections(),
                timeout_keep_alive=IDLE_S,
                timeout_graceful_shutdown=ENDS_WITHIN_S,
            )
            uvicorn.Server(config).run(sockets=[listening])
    finally:
        database.close()


def _most_connections() -> int:
    """No more than files may be open; that limit is raised as far as it goes."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return max(1, min(MOST_CONNECTIONS, files - OTHER_FILES - REFUSED_AT_ONCE))


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise InputError(
            f"{host}:{port} cannot be listened on: {error.strerror or error}",
            "Give another --port (0: any that is free).",
        ) from error

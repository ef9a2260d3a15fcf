"""Runs a centre with uvicorn. No access log: nobody's address is written anywhere."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator

import uvicorn

from agent.errors import InputError
from agent.terminal.console import note
from bundles.files import most_open_files
from bundles.fleet.app import application
from bundles.fleet.connection import REFUSED_AT_ONCE, Connection
from bundles.fleet.settings import CentreSettings
from bundles.fleet.storage.database import open_database
from bundles.fleet.threads import started_threads

MOST_CONNECTIONS, FEWEST_CONNECTIONS = 10_000, 56
THREADS = 8  # that talk to the database; PostgreSQL gets as many connections
OTHER_FILES = 100  # the database's, and those of a release
IDLE_S = 75
ENDS_WITHIN_S = 20
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_centre(settings: CentreSettings, host: str, port: int) -> None:
    """Serve until Ctrl-C, SIGTERM or SIGHUP; reports that wait are written, the database closed.

    Raises:
        DatabaseError: the database cannot be used.
        InputError: the address cannot be listened on, or too few files or threads may be open.
    """
    most = _most_connections()
    database = open_database(settings.database)
    try:
        with _listening(host, port) as listening:
            here = f"[{host}]" if ":" in host else host
            note(f"Fleet at http://{here}:{listening.getsockname()[1]} (stop with Ctrl-C)")
            config = uvicorn.Config(
                application(database, settings, started_threads(THREADS, "database")),
                http=Connection,
                ws="none",
                access_log=False,
                log_level="warning",
                lifespan="on",
                server_header=False,
                proxy_headers=False,
                limit_concurrency=most,
                timeout_keep_alive=IDLE_S,
                timeout_graceful_shutdown=ENDS_WITHIN_S,
            )
            _Server(config).run(sockets=[listening])
    finally:
        database.close()


class _Server(uvicorn.Server):
    """uvicorn's own raises a signal again once it has stopped, and what comes after is skipped."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in STOPPING:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in STOPPING:
                loop.remove_signal_handler(number)


def _most_connections() -> int:
    """No more than files may be open; that limit is raised as far as it goes.

    Raises:
        InputError: so few that callers would be turned away.
    """
    files = most_open_files()
    others = OTHER_FILES + REFUSED_AT_ONCE
    if files < others + FEWEST_CONNECTIONS:
        raise InputError(
            f"only {files} files may be open at once (RLIMIT_NOFILE), and the centre needs "
            f"{others + FEWEST_CONNECTIONS} or more: {others} besides one for each connection",
            "Raise the limit: `ulimit -n 4096`, or LimitNOFILE=4096 in its systemd unit.",
        )
    return int(min(MOST_CONNECTIONS, files - others))


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise InputError(
            f"{host}:{port} cannot be listened on: {error.strerror or error}",
            "Give another --port (0: any that is free).",
        ) from error

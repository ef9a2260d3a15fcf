"""uvicorn's connections, with an end to how long and how large a request may be.

uvicorn waits for ever for the end of a head, and keeps all of it that comes. Here a connection that
does not bring one whole request in time is cut off, and so is one that brings too much. Trailers,
which uvicorn takes for headers, are read and dropped (RFC 9110, 6.5.1).
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

HEAD_WITHIN_S, WHOLE_WITHIN_S = 10.0, 20.0  # the second from the head's end: slower than any form
MOST_HEAD, MOST_BODY = 64 << 10, 1 << 20
REFUSED_AT_ONCE = 100  # connections above the limit of uvicorn's that still hear a 503


class Connection(HttpToolsProtocol):
    """One connection; a request on it is begun, then has a head, then is whole."""

    _requests = _size = _piece = 0
    _begun = _has_head = False
    _waits_for: tuple[int, bool] | None = None
    _late: asyncio.TimerHandle | None = None

    def connection_made(  # type: ignore[override]  # as uvicorn's
        self, transport: asyncio.Transport
    ) -> None:
        """Cut it off where there are too many."""
        super().connection_made(transport)
        most = self.limit_concurrency
        if most is not None and len(self.connections) > most + REFUSED_AT_ONCE:
            transport.abort()
        else:
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._stop_watching()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Let no more in than a request may have."""
        while data and not self.transport.is_closing():
            room = (MOST_BODY if self._has_head else MOST_HEAD) - self._size
            if room <= 0:
                self._refuse()
                return
            piece, data = data[:room], data[room:]
            self._piece = len(piece)
            self._size += self._piece
            super().data_received(piece)
        self._watch()

    def on_message_begin(self) -> None:
        """Count from here."""
        self._requests += 1
        self._begun, self._has_head, self._size = True, False, self._piece
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Of the head: a proxy in front replaces those that it vouches for, and no trailers."""
        if not self._has_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """From here the body counts."""
        self._has_head, self._size = True, self._piece
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """It is whole: from here it is the answer that is waited for."""
        self._begun, self._has_head, self._size = False, False, 0
        super().on_message_complete()

    def _watch(self) -> None:
        """Give what is on its way its time, once, however many pieces it comes in."""
        answered = self.cycle is None or self.cycle.response_complete
        waits_for = (self._requests, self._has_head) if self._begun or answered else None
        if waits_for == self._waits_for:
            return
        self._stop_watching()
        if waits_for is not None:
            within_s = WHOLE_WITHIN_S if self._has_head else HEAD_WITHIN_S
            self._late = self.loop.call_later(within_s, self.transport.abort)
            self._waits_for = waits_for

    def _stop_watching(self) -> None:
        if self._late is not None:
            self._late.cancel()
        self._late = self._waits_for = None

    def _refuse(self) -> None:
        if not self._has_head:
            end = b"content-length: 0\r\nconnection: close\r\n\r\n"
            self.transport.write(STATUS_LINE[431] + end)
        self.transport.close()

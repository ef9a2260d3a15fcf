"""The body of an answer: as it is, whole, and no more than can be right."""

from __future__ import annotations

import math
import time

import requests

AS_IS = {"Accept-Encoding": "identity"}  # to be sent: what comes is never unpacked


def read_body(answer: requests.Response, most: int, within_s: float = math.inf) -> bytes:
    """The body of an answer that was asked for with ``stream=True``.

    Raises:
        ValueError: it is packed, longer than ``most`` bytes, or not whole ``within_s`` from now.
        urllib3.exceptions.HTTPError: it broke off, or is no HTTP.
    """
    if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ValueError("packed")
    found, until = bytearray(), time.monotonic() + within_s
    for piece in answer.raw.stream(8192, decode_content=False):
        found += piece
        if len(found) > most:
            raise ValueError("too long")
        if time.monotonic() > until:
            raise ValueError("too slow")
    return bytes(found)

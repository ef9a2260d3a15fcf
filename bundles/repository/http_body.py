"""The body of an answer: as it is, whole, and no more than can be right."""

from __future__ import annotations

import requests

AS_IS = {"Accept-Encoding": "identity"}  # to be sent: what comes is never unpacked


def read_body(answer: requests.Response, most: int) -> bytes:
    """The body of an answer that was asked for with ``stream=True``.

    Raises:
        ValueError: it is packed, or longer than ``most`` bytes.
        urllib3.exceptions.HTTPError: it broke off, or is no HTTP.
    """
    if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ValueError("packed")
    found = bytearray()
    for piece in answer.raw.stream(8192, decode_content=False):
        found += piece
        if len(found) > most:
            raise ValueError("too long")
    return bytes(found)

"""The centre as its staff run it: a real repository, real keys, real bundles, a real web server."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from onnx import helper, numpy_helper

from agent.bundle.bundle import load_bundle
from agent.update.archive import pack_bundle
from bundles.repository import pem, publish
from bundles.repository.making import make_repository
from bundles.repository.passphrases import Passphrases
from bundles.repository.publisher import Publisher, publisher_at
from bundles.repository.renewal import renew_online
from tests.agent.bundle.bundles_made import FEATURE_COUNT, encoder_bytes, golden, write_bundle

PASSPHRASE = "correct horse battery staple"
WIDTH = 4


@dataclass(frozen=True)
class Centre:
    """A repository in ``directory``; ``root`` is what machines are given once."""

    directory: Path

    @property
    def public(self) -> Path:
        return self.directory / "public"

    @property
    def root(self) -> Path:
        return self.public / "metadata" / "1.root.json"

    def at(self, now: datetime | None = None) -> Publisher:
        words = Passphrases(environment={"BUNDLES_PASSPHRASE": PASSPHRASE})
        return publisher_at(self.directory, now or datetime.now(UTC), words)

    def add(self, bundle: Path, channel="stable", rollout=100, now=None) -> str:
        """Publish, without the child that tries the encoder; the bundle's digest."""
        loaded, to = load_bundle(bundle), publish.Audience(channel, rollout, again=True)
        publish.add_archive(self.at(now), pack_bundle(bundle), loaded, to)
        return loaded.digest

    def withdraw(self, name: str, channel=None) -> None:
        publish.withdraw_bundle(self.at(), name, channel)

    def promote(self, name: str, channel="stable", rollout=100) -> None:
        to = publish.Audience(channel, rollout, again=True)
        publish.promote_bundle(self.at(), name, to)

    def timestamp(self, now=None) -> None:
        renew_online(self.at(now), clock_is_right=True)


def new_centre(directory: Path, now: datetime | None = None) -> Centre:
    """A repository whose keys open quickly."""
    centre = Centre(directory)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pem, "SCRYPT_N", 2)
        make_repository(centre.at(now), 3, 2)
    return centre


def made_bundle(path: Path, version: str, seed: int = 0, *, misleading: bool = False) -> Path:
    """A bundle of random projections; a misleading one is sure of nonsense (that is possible)."""
    weights = np.random.default_rng(seed).normal(size=(FEATURE_COUNT, WIDTH)) / FEATURE_COUNT**0.5
    weights = weights.astype(np.float32)
    encoder = encoder_bytes(
        nodes=[helper.make_node("MatMul", ["features", "w"], ["embedding"])],
        tensors=[numpy_helper.from_array(weights, "w")],
        embedding=WIDTH,
    )
    prior = {
        "schema": 1,
        "mean": [0.3, -4.2, 3.4, -0.8, 7.5] if misleading else [0.1] * WIDTH + [-21.0],
        "directions": (np.eye(WIDTH + 1)[:, :3] * (1e-4 if misleading else 1.0)).tolist(),
        "noise_speedup": 0.5,
        "noise_seconds": 0.7,
    }
    rows = np.asarray(golden()["features"], np.float32)
    known = {"features": rows.tolist(), "embedding": (rows @ weights).tolist()}
    more = {"golden": known, "name": "field", "version": version}
    return write_bundle(path, encoder, json.dumps(prior).encode(), **more)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(directory: Path, handler: type = _Quiet) -> Iterator[str]:
    """A real HTTP server on loopback; its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(directory)))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def copied(centre: Centre, to: Path) -> Centre:
    shutil.copytree(centre.directory, to)
    return Centre(to)

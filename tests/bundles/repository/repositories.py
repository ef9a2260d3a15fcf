"""Repositories for tests: real keys and real metadata, quick to make; and a client to judge them.

The client is python-tuf's own, on files: what it takes, a machine can take.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import Updater, UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface

from agent.bundle.bundle import load_bundle
from agent.settings.config import CHANNELS
from agent.update.archive import pack_bundle
from agent.update.offers import SLOTS
from bundles.repository import publish
from bundles.repository.passphrases import Passphrases
from bundles.repository.publisher import Publisher, publisher_at

PASSPHRASE = "four words and more"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def place(
    directory: Path, now: datetime = NOW, keys=(), said: str | None = PASSPHRASE
) -> Publisher:
    environment = {"BUNDLES_PASSPHRASE": said} if said else {}
    return publisher_at(directory, now, Passphrases(None, environment), keys)


def later(where: Publisher, **time: float) -> Publisher:
    """The same repository and keys, some time on."""
    return Publisher(where.directory, where.keyring, where.now + timedelta(**time))


def bundle_like(tiny: Path, directory: Path, version: str, **changes) -> Path:
    """The tiny bundle under another version: other bytes, as good."""
    directory.mkdir(parents=True)
    for name in ("encoder.onnx", "prior.json"):
        (directory / name).write_bytes((tiny / name).read_bytes())
    manifest = json.loads((tiny / "manifest.json").read_bytes())
    (directory / "manifest.json").write_text(
        json.dumps({**manifest, "version": version, **changes})
    )
    return directory


def put(where: Publisher, directory: Path, channel: str, rollout: int = 100, **options):
    """``publish.add_bundle`` without the child process that tries the encoder."""
    to = publish.Audience(channel, rollout, **options)
    return publish.add_archive(where, pack_bundle(directory), load_bundle(directory), to)


class Files(FetcherInterface):
    """Fetches from a directory, as from a server."""

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            yield Path(unquote(urlsplit(url).path)).read_bytes()
        except OSError as error:
            raise DownloadHTTPError(str(error), 404) from error


@dataclass
class Client:
    """A machine: the root it was given, and python-tuf's cache, which it keeps."""

    cache: Path
    root: bytes

    def updater(self, public: Path, now: datetime) -> Updater:
        self.cache.mkdir(exist_ok=True)
        made = Updater(
            metadata_dir=str(self.cache),
            metadata_base_url=(public / "metadata").as_uri(),
            target_dir=str(self.cache),
            target_base_url=(public / "targets").as_uri(),
            fetcher=Files(),
            config=UpdaterConfig(),
            bootstrap=self.root,
        )
        made._trusted_set.reference_time = now
        made.refresh()
        return made

    def offers(self, public: Path, now: datetime = NOW) -> dict[str, str]:
        """``{"pilot/settled": "tiny@1", ...}``; every archive is downloaded and verified."""
        updater, found = self.updater(public, now), {}
        for path in (f"{c}/{s}" for c in CHANNELS for s in SLOTS):
            target = updater.get_targetinfo(f"{path}.bundle")
            if target:
                updater.download_target(target)
                found[path] = f"{target.custom['name']}@{target.custom['version']}"
        return found


def first_root(directory: Path) -> bytes:
    return (directory / "public" / "metadata" / "1.root.json").read_bytes()


def signed(directory: Path, name: str) -> dict:
    """The signed part of a metadata file."""
    return json.loads((directory / "public" / "metadata" / name).read_bytes())["signed"]

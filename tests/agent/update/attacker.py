"""Whoever stands between the centre and a machine: serves bent copies, signed with stolen keys."""

import json
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, TargetFile

from bundles.repository.passphrases import Passphrases
from tests.agent.update.published import PASSPHRASE, Centre

NEVER = datetime(2100, 1, 1, tzinfo=UTC)
STRANGER = CryptoSigner.generate_ed25519()  # a key that nobody ever trusted
Change = Callable[..., object]


class Mirror:
    """A copy of a repository in ``directory``, served to a machine in place of the real one.

    ``good`` is what the centre serves when it is over; None: what it served before.
    """

    def __init__(self, centre: Centre, directory: Path):
        self.centre, self.directory = centre, directory
        self.good: Centre | None = None
        shutil.copytree(centre.public, directory)

    @property
    def metadata(self) -> Path:
        return self.directory / "metadata"

    def key(self, name: str) -> CryptoSigner:
        """A key of the centre, by the name of its file; ``stranger`` is nobody's."""
        if name == "stranger":
            return STRANGER
        path = self.centre.directory / "keys" / f"{name}.pem"
        words = Passphrases(environment={"BUNDLES_PASSPHRASE": PASSPHRASE})
        return CryptoSigner(words.open(path.read_bytes(), path))

    def version(self, role: str) -> int:
        """The newest that is here."""
        found = self.metadata.glob(f"*.{role}.json")
        return max(int(path.name.partition(".")[0]) for path in found)

    def path(self, role: str, version: int | None = None) -> Path:
        if role == "timestamp":
            return self.metadata / "timestamp.json"
        return self.metadata / f"{version or self.version(role)}.{role}.json"

    def load(self, role: str) -> Metadata:
        return Metadata.from_file(str(self.path(role)))

    def forge(self, role: str, change: Change, keys: Sequence[str], *, step: int = 1) -> None:
        """A changed role, ``step`` versions on, signed with ``keys``; nothing else follows."""
        role_now = self.load(role)
        role_now.signed.version += step
        change(role_now.signed)
        self.sign(role, role_now, keys)

    def sign(self, role: str, md: Metadata, keys: Sequence[str]) -> None:
        md.signatures.clear()
        for name in keys:
            md.sign(self.key(name), append=True)
        self.path(role, md.signed.version).write_bytes(md.to_bytes())

    def relist(self, *, key: str = "online", roles: Sequence[str] = (), **more: int) -> None:
        """Snapshot and timestamp for what is here, signed with a stolen online key.

        Args:
            key: that signs.
            roles: to be listed anew, with the version here.
            more: roles and the versions to be claimed for them.
        """
        claimed = {role: self.version(role) for role in roles} | more

        def list_roles(snapshot) -> None:
            snapshot.meta |= {f"{role}.json": MetaFile(n) for role, n in claimed.items()}

        self.forge("snapshot", list_roles, [key])
        self.stamp(key=key)

    def stamp(self, change: Change = lambda _: None, *, key: str = "online") -> None:
        """A new timestamp of the newest snapshot here."""

        def point(timestamp) -> None:
            timestamp.snapshot_meta = MetaFile(self.version("snapshot"))
            change(timestamp)

        self.forge("timestamp", point, [key])

    def targets(self, channel: str = "stable") -> list[Path]:
        """The archives that the channel offers."""
        listed = self.load(channel).signed.targets.values()
        return [self.directory / "targets" / t.get_prefixed_paths()[0] for t in listed]

    def offer(self, role, path: str, archive: bytes, **custom: object) -> None:
        """Put other bytes under a target of a role."""
        before = next(iter(role.targets.values())).custom
        target = TargetFile.from_data(path, archive, ["sha256"])
        target.unrecognized_fields["custom"] = {**before, **custom}
        role.targets[path] = target
        file = self.directory / "targets" / target.get_prefixed_paths()[0]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(archive)


def end_in(**time: float) -> Change:
    """Signatures that end some time from now."""

    def change(signed) -> None:
        signed.expires = (datetime.now(UTC) + timedelta(**time)).replace(microsecond=0)

    return change


def unsigned(path: Path, keep: int = 0) -> None:
    """Take all but ``keep`` signatures from a file."""
    body = json.loads(path.read_text())
    body["signatures"] = body["signatures"][:keep]
    path.write_text(json.dumps(body))

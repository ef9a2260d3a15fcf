"""The smallest centre: a repository signed by python-tuf alone, to be bent in tests."""

import json
from datetime import UTC, datetime
from pathlib import Path

from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

NOW = 1_800_000_000.0  # 2027-01-15
DAY = 86_400.0
CHANNELS = ("pilot", "stable")
LIVES = {"timestamp": 7, "snapshot": 30, "pilot": 730, "stable": 730, "targets": 1095, "root": 1095}


def instant(seconds):
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=0)


class Centre:
    """A repository in ``directory``; ``roles`` may be changed before ``publish``."""

    def __init__(self, directory: Path, now: float = NOW):
        self.directory, self.now = directory, now
        online = [CryptoSigner.generate_ed25519()]
        self.signers = {role: [CryptoSigner.generate_ed25519()] for role in (*CHANNELS, "targets")}
        self.signers["root"] = [CryptoSigner.generate_ed25519() for _ in range(3)]
        self.signers["snapshot"] = self.signers["timestamp"] = online
        made = {"root": Root, "targets": Targets, "snapshot": Snapshot, "timestamp": Timestamp}
        self.roles = {name: made.get(name, Targets)() for name in LIVES}
        self.roles["snapshot"].meta = {}
        for role in ("root", "targets", "snapshot", "timestamp"):
            for signer in self.signers[role]:
                self.root.add_key(signer.public_key, role)
        self.root.roles["root"].threshold = 2
        self.targets.delegations = Delegations({}, {})
        for name in CHANNELS:
            delegated = DelegatedRole(name, [], 1, True, [f"{name}/*"])
            self.targets.delegations.roles[name] = delegated
            self.targets.add_key(self.signers[name][0].public_key, name)
        for role in self.roles.values():
            role.version = 0
        self.publish("root", "targets", *CHANNELS)

    @property
    def root(self) -> Root:
        return self.roles["root"]

    @property
    def targets(self) -> Targets:
        return self.roles["targets"]

    @property
    def trusted_root(self) -> bytes:
        """The first root: what machines are given."""
        return (self.directory / "metadata/1.root.json").read_bytes()

    def offer(self, channel, slot="settled", content=b"a bundle", **custom):
        """Put a target into a channel's role and its bytes in their place; not published yet."""
        path = f"{channel}/{slot}.bundle"
        target = TargetFile.from_data(path, content, ["sha256"])
        described = {
            "schema": 1,
            "name": "loops",
            "version": "7",
            "digest": "ab" * 32,
            "features_version": 3,
            "rollout": 100 if slot == "settled" else 10,
            "withdrawn": [],
        } | custom
        kept = {key: value for key, value in described.items() if value is not ...}
        target.unrecognized_fields["custom"] = kept
        self.roles[channel].targets[path] = target
        file = self.file_of(target)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return target

    def file_of(self, target) -> Path:
        folder, _, name = target.path.rpartition("/")
        return self.directory / "targets" / folder / f"{target.hashes['sha256']}.{name}"

    def publish(self, *changed, lives=None):
        """New versions of ``changed``, of the snapshot and of the timestamp."""
        names = [name for name in ("root", "targets", *CHANNELS) if name in changed]
        for name in (*names, "snapshot", "timestamp"):
            role = self.roles[name]
            role.version += 1
            role.expires = instant(self.now + (LIVES | (lives or {}))[name] * DAY)
            if name in ("targets", *CHANNELS):
                self.roles["snapshot"].meta[f"{name}.json"] = MetaFile(role.version)
            if name == "snapshot":
                self.roles["timestamp"].snapshot_meta = MetaFile(role.version)
            if name == "timestamp":
                role.unrecognized_fields.setdefault("signed_at", "")
                if role.unrecognized_fields["signed_at"] is not ...:
                    signed_at = instant(self.now).strftime("%Y-%m-%dT%H:%M:%SZ")
                    role.unrecognized_fields["signed_at"] = signed_at
            self.write(name)

    def write(self, name):
        """Sign a role as it is and write it."""
        role = Metadata(self.roles[name])
        for signer in self.signers[name]:
            role.sign(signer, append=True)
        self.path_of(name).write_bytes(role.to_bytes())

    def write_any(self, name, signed):
        """Sign and write whatever JSON, as someone with the keys could."""
        data = encode_canonical(signed).encode()
        signatures = [signer.sign(data).to_dict() for signer in self.signers[name]]
        whole = {"signatures": signatures, "signed": signed}
        self.path_of(name).write_text(json.dumps(whole))

    def path_of(self, name) -> Path:
        version = "" if name == "timestamp" else f"{self.roles[name].version}."
        path = self.directory / f"metadata/{version}{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def rotate(self, *names):
        """New keys for roles (snapshot and timestamp share one); roots that say so follow."""
        for name in names:
            delegator = self.targets if name in CHANNELS else self.root
            old, new = self.signers[name], [CryptoSigner.generate_ed25519()]
            for signer in old:
                delegator.revoke_key(signer.public_key.keyid, name)
            for signer in new:
                delegator.add_key(signer.public_key, name)
            self.signers[name] = new
        if "snapshot" in names and "timestamp" in names:
            self.root.revoke_key(self.signers["snapshot"][0].public_key.keyid, "snapshot")
            self.signers["snapshot"] = self.signers["timestamp"]
            self.root.add_key(self.signers["snapshot"][0].public_key, "snapshot")

"""Checkpoints of a training run: whole or not there, recognised by digest, the newest two kept."""

from __future__ import annotations

import io
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from bundles.files import write_whole

KEPT = 2
State = dict[str, Any]  # what torch saves: tensors, numbers, texts, and mappings of them


@dataclass(frozen=True)
class Checkpoints:
    """Files ``epoch-NNNNN.DIGEST.pt`` in a directory named after the run.

    Attributes:
        directory: of all runs; None: nothing is kept.
        run: what tells this run from others.
    """

    directory: Path | None
    run: str

    def newest(self) -> State | None:
        """The newest whole checkpoint, if there is one; damaged ones are passed over."""
        for path in reversed(self._files()):
            content = path.read_bytes()
            if sha256(content).hexdigest()[:16] == path.name.split(".")[1]:
                state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
                return dict(state)
        return None

    def keep(self, epoch: int, state: State) -> None:
        """Write a checkpoint, then drop the oldest."""
        if self.directory is None:
            return
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getvalue()
        name = f"epoch-{epoch:05d}.{sha256(content).hexdigest()[:16]}.pt"
        self._mine().mkdir(parents=True, exist_ok=True)
        write_whole(self._mine() / name, content)
        for path in self._files()[:-KEPT]:
            path.unlink(missing_ok=True)

    def _mine(self) -> Path:
        assert self.directory is not None  # noqa: S101  callers have looked
        return self.directory / f"training-{self.run[:16]}"

    def _files(self) -> list[Path]:
        return sorted(self._mine().glob("epoch-*.*.pt")) if self.directory else []

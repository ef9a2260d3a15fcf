"""What a bundle is made from: sizes, seeds and rates of one run of pre-training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

Say = Callable[[str], None]


@dataclass(frozen=True)
class TrainingSettings:
    """What a bundle is made from; the manifest repeats all of it.

    Attributes:
        programs, variants: size of the corpus; ``held_out``: part kept for validation.
        machines, other_machines: simulated machines to train on, and to validate on.
        epochs, batch, rate, decay: of AdamW under a one-cycle schedule; ``batch`` in programs.
        hidden, blocks, embedding: sizes of an encoder.
        members: encoders that are trained apart, from other weights and in another order, and
            joined.
        simulated, decoder, mask: the objectives (``network.Weights``): weights of times on
            simulated machines and of reconstruction, and the share of features hidden from it.
        threads, processes: CPU threads of torch, processes that draw programs.
    """

    seed: int = 0
    programs: int = 8_000
    variants: int = 16
    held_out: float = 0.1
    machines: int = 192
    other_machines: int = 48
    epochs: int = 40
    batch: int = 48
    rate: float = 2e-3
    decay: float = 1e-3
    hidden: int = 224
    blocks: int = 3
    embedding: int = 64
    members: int = 2
    simulated: float = 1.0
    decoder: float = 0.1
    mask: float = 0.1
    threads: int = 1  # at these sizes a second thread costs more than it brings
    processes: int = 2

    def each_member(self) -> list[TrainingSettings]:
        """Of each encoder alone."""
        return [replace(self, members=1, seed=self.seed + n) for n in range(self.members)]


def quick_settings(settings: TrainingSettings) -> TrainingSettings:
    """A tiny run of the same pipeline, for tests: seconds instead of minutes."""
    small = replace(settings, programs=200, variants=8, machines=32, other_machines=8)
    return replace(
        small, epochs=4, batch=16, hidden=64, blocks=1, embedding=24, members=2, processes=1
    )


@dataclass(frozen=True)
class Where:
    """Where a run happens. With one worker on CPUs it changes nothing about the result.

    Attributes:
        work: directory for data and checkpoints; what is whole there is not made again.
        address: of a Ray cluster, ``local`` to start one here; empty: without Ray.
        workers: processes that train, each on its part of every batch.
        device: ``cpu`` or ``cuda``.
    """

    work: Path | None = None
    address: str = ""
    workers: int = 1
    device: str = "cpu"


HERE = Where()

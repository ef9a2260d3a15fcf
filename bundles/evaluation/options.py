"""What is asked of an evaluation, with its defaults; light, since the command line reads them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from agent.errors import AgentError

BUDGETS = (0, 8, 16, 24, 48, 96, 200, 400, 1000, 3000)
LEAVE = ("machine", "target")


@dataclass(frozen=True)
class EvaluationProtocol:
    """What is run.

    Attributes:
        budgets: numbers of timed versions; ``seeds``: draws of labels and of learned controls.
        arms: some of them, by name, in the order in which they run; empty: all.
        processes: that share the work; the figures do not depend on it.
    """

    budgets: tuple[int, ...] = BUDGETS
    seeds: int = 5
    arms: tuple[str, ...] = ()
    processes: int = 2


QUICK = EvaluationProtocol(budgets=(0, 16, 48), seeds=2, processes=1)


@dataclass(frozen=True)
class EvaluationOptions:
    """What is asked for.

    Attributes:
        labels: files of our machines: evaluated where no ``data`` is given, learned from else.
        out: directory of the report; ``work``: of trained encoders.
        data: files to evaluate.
        bundle: to evaluate as it is; None: the agent's.
        leave: ``machine`` or ``target``: train an encoder without it; None: use the bundle.
        protocol: budgets, seeds, arms.
        small: a small plain autoencoder, for tests.
    """

    labels: tuple[Path, ...]
    out: Path
    work: Path
    data: tuple[Path, ...] = ()
    bundle: Path | None = None
    leave: str | None = None
    protocol: EvaluationProtocol = field(default_factory=EvaluationProtocol)
    small: bool = False


@dataclass(frozen=True)
class RealCampaign:
    """What is timed of each program.

    Attributes:
        looked_at: legal schedules that are ranked; ``timed``: of them.
        first: of these, so many are those predicted best; the others are drawn.
        seed: of what is drawn.
        budget_s: wall time to aim for in timing a program (three rounds are always run).
    """

    looked_at: int = 60
    timed: int = 12
    first: int = 3
    seed: int = 0
    budget_s: float = 10.0


@dataclass(frozen=True)
class RealOptions:
    """What is asked for.

    Attributes:
        out: directory of the report and of the journal.
        programs: the list to time, or None; then ``timings``: the journal to score.
        again: the journal of another run, to be scored as a way to predict.
        bundle: to score; None: the agent's.
        machine: a name for this class of machine: it stands in the report.
        compiler: as for the agent; ``state_dir``: whose calibration is used.
        campaign: how many schedules.
    """

    out: Path
    programs: Path | None = None
    timings: Path | None = None
    again: Path | None = None
    bundle: Path | None = None
    machine: str = "this-machine"
    compiler: str | None = None
    state_dir: str | None = None
    campaign: RealCampaign = field(default_factory=RealCampaign)


def parse_budgets(text: str) -> tuple[int, ...]:
    """Numbers of labels, separated by commas; AgentError where one is no whole number."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() and len(part) < 8 for part in parts):
        raise AgentError(f"--budgets {text[:40]!r} is not a list of numbers", "Such as 0,16,48.")
    return tuple(sorted(set(map(int, parts))))


def parse_arms(text: str) -> tuple[str, ...]:
    """Names separated by commas."""
    return tuple(filter(None, text.replace(" ", "").split(",")))

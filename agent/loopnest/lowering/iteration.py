"""The counter that a loop has in the IR, and what every variable is in its terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from agent.errors import SourceError
from agent.loopnest.lowering.headers import LoopHeader
from agent.loopnest.lowering.state import (
    Known,
    Pointer,
    Unknown,
)
from agent.loopnest.program import Affine, Bound, Loop

Counter = Known | Pointer


RESET = "given a value of its own in every iteration"


IRREGULAR = "not changed by the same amount in every iteration"


Change = Affine | str


@dataclass(frozen=True)
class LoopCounter:
    """A loop's counter in the IR and what every variable is in its terms.

    ``normalised``: the counter is the number of the iteration; otherwise it is the header's
    variable itself (or what that has come down by).
    """

    name: str
    head: LoopHeader
    changes: Mapping[int, Change]
    normalised: bool

    @property
    def step(self) -> int:
        """What the counter of the IR goes up by."""
        return 1 if self.normalised else abs(self.head.step)

    @property
    def origin(self) -> Affine:
        """The first value of the counter of the IR, where there is one."""
        return self.head.starts[0] if self.step_is_its_own else Affine()

    @property
    def step_is_its_own(self) -> bool:
        """Whether the counter is the header's variable."""
        return not self.normalised and self.head.step > 0

    def entry(self, scope: Mapping[int, object]) -> dict[int, Counter | Unknown]:
        """What each changed variable is at the beginning of an iteration."""
        return {i: self._entry(i, scope.get(i), change) for i, change in self.changes.items()}

    def _entry(self, ident: int, before: object, change: Change) -> Counter | Unknown:
        counter = Affine.var(self.name)
        if ident == self.head.ident:
            if self.step_is_its_own:
                return Known(counter, self.head.dtype)
            factor = self.head.step if self.normalised else -1
            return Known(self.head.starts[0] + counter * factor, self.head.dtype)
        if isinstance(change, str) or not isinstance(before, Known | Pointer):
            known = isinstance(before, Known) or getattr(before, "symbolic", False)
            return Unknown(f"it is {change}", symbolic=known)
        moved = times(counter - self.origin, change, self.step)
        if moved is None or (len(self.head.starts) > 1 and self.step_is_its_own):
            return Unknown("it does not count along", symbolic=isinstance(before, Known))
        return plus(before, moved)


def plus(before: Counter, moved: Affine) -> Counter:
    """A number that has gone up by ``moved``, or a pointer by so many elements."""
    if isinstance(before, Known):
        return replace(before, form=before.form + moved)
    *outer, last = before.subscripts
    return replace(before, subscripts=(*outer, last + moved))


def times(distance: Affine, change: Affine, step: int) -> Affine | None:
    """``distance / step * change`` where that is affine."""
    if change.is_constant and change.const % step == 0:
        return distance * (change.const // step)
    if change == Affine():
        return Affine()
    if distance.is_constant and distance.const % step == 0:
        return change * (distance.const // step)
    return None


def is_normalised(head: LoopHeader, changes: Mapping[int, Change]) -> bool:
    """Whether some variable counts along in steps that are no multiple of the loop's own."""
    others = [c for i, c in changes.items() if i != head.ident and isinstance(c, Affine)]
    return any(c.is_constant and c.const % abs(head.step) != 0 for c in others)


def outer_loop(counted: LoopCounter) -> Loop:
    """The loop of the IR, without its bounds above; raises SourceError where it has none below."""
    head = counted.head
    if len(head.starts) > 1 and not counted.step_is_its_own:
        raise SourceError(
            f"{head.tests[0].place}: a loop that counts down needs one first value",
            hint="Let it count up: for (int i = first; i < last; i++).",
        )
    lower = head.starts if counted.step_is_its_own else (Affine(),)
    return Loop(counted.name, tuple(map(Bound, lower)), (), counted.step, ())

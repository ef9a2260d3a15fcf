"""What a set of labels speaks for."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

from agent.arrays import Doubles
from agent.errors import AgentError
from agent.model.facts import facts_of
from agent.system.documents import page_path

RIGHT = f"The columns are described in {page_path('docs/reference/labels.md')}."


@dataclass(frozen=True)
class Target:
    """What a set of labels speaks for: a class of machine and a toolchain, never a machine's name.

    Attributes:
        name: of the target, such as ``gcc-O3-native-t2``.
        machine: targets with the same one share their silicon (``zen5-vm``).
        architecture: such as ``x86_64``; ``level``: such as ``x86-64-v4``.
        simd_bytes: widest vectors that the *compiled code* may use.
        threads: that parallel loops use.
        l1, l2, l3: bytes of the caches, 0 where there is none or none is known.
        virtual: whether it is a virtual machine.
        compiler: family: ``gcc``, ``clang`` or another word.
        version: of the compiler; ``flags``: of every compilation.
    """

    name: str
    machine: str
    architecture: str
    level: str
    simd_bytes: int
    threads: int
    l1: int
    l2: int
    l3: int
    virtual: bool
    compiler: str
    version: str
    flags: tuple[str, ...]

    @property
    def facts(self) -> Doubles:
        """[f] what is known of the target without timing it (``agent.model.facts``)."""
        caches = {1: self.l1, 2: self.l2, 3: self.l3}
        return facts_of(self.simd_bytes, self.threads, caches, self.compiler, self.flags)

    @classmethod
    def from_json(cls, data: object) -> Self:
        """Read what ``asdict`` gave; AgentError where a field is missing or of another type."""
        try:
            assert isinstance(data, dict)  # noqa: S101  turned into an AgentError below
            values = {f.name: data[f.name] for f in fields(cls)}
            for f in fields(cls):
                wanted = {"int": int, "bool": bool, "str": str}.get(str(f.type), list)
                if not isinstance(values[f.name], wanted):
                    raise TypeError(f.name)
            return cls(**{**values, "flags": tuple(map(str, values["flags"]))})
        except (AssertionError, KeyError, TypeError) as error:
            raise AgentError(
                f"its description of the machine lacks a proper {error}", RIGHT
            ) from error

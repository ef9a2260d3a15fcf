"""Variables of one number that are data, and types that are not read."""

from __future__ import annotations

from agent.loopnest.frontend.ctree import (
    ArrayType,
    CType,
    Name,
    PointerType,
    RecordType,
)
from agent.loopnest.lowering.forms import integer_type
from agent.loopnest.lowering.state import (
    Argument,
    Data,
    Environment,
    Known,
    RestartError,
    Unknown,
    refusal,
)
from agent.loopnest.program import Access, Scalar

VALUE = "Give it its value in the loops, above where it is used, or pass it as a parameter."


_INSTEAD = {
    "long double": "Use double.",
}


def wrong_type(what: str, kind: CType) -> tuple[str, str]:
    """Message and hint where ``what`` has a type that is not read."""
    text = getattr(kind, "text", "")
    if isinstance(kind, PointerType):
        text = "a pointer"
    elif isinstance(kind, ArrayType | RecordType):
        text = "a whole array" if isinstance(kind, ArrayType) else "a whole structure"
    hint = "Use an integer type, float or double; structures and arrays element by element."
    return f"{what} has the type {text}, which is not read", _INSTEAD.get(text, hint)


def scalar(env: Environment, node: Name) -> tuple[Access, bool] | None:
    """The access to a scalar variable that is data; None where the name is another thing."""
    match env.scope.get(node.ident):
        case Data(access, _, const):
            entering(env, node)
            return access, not const
        case Argument(name, kind):
            if kind.dtype is None:
                raise refusal(node.place, *wrong_type(repr(name), kind))
            env.region.scalars.setdefault(name, Scalar(name, kind.dtype))
            return Access(name), False
        case Unknown(symbolic=True) | Known() if integer_type(node.type) is not None:
            raise RestartError(data=node.ident)
        case Unknown(why):
            raise refusal(node.place, f"{node.name!r} cannot be used here: {why}", VALUE)
        case None:
            raise refusal(node.place, f"{node.name!r} is read before it has a value", VALUE)
        case _:
            return None


def entering(env: Environment, node: Name) -> None:
    """Notes that a variable from outside of the region is read before the region sets it."""
    region = env.region
    if node.ident in region.live or node.ident in env.given:
        return
    if node.ident in region.outer:
        raise RestartError(entering=node.ident)
    if node.ident not in region.touched:
        raise refusal(
            node.place,
            f"{node.name!r} is read before it has a value",
            "Give it its first value where it is declared, or in a statement further up.",
        )

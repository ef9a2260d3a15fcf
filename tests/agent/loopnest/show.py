"""A program's loops on one line: ``i 0..9 (j i..min(20, 2*i) step 2 vector (S[i, j]))``."""

from agent.loopnest.program import Bound, Loop, Node, Program


def show(program: Program) -> str:
    """The tree of ``program``; a statement shows its instance as written."""
    return " ".join(map(_node, program.body))


def _node(node: Node) -> str:
    if not isinstance(node, Loop):
        return f"{node.name}[{', '.join(map(str, node.instance))}]"
    head = f"{node.iterator} {_ends('max', node.lower)}..{_ends('min', node.upper)}"
    marks = [f"step {node.step}"] * (node.step > 1) + ["parallel"] * node.parallel
    marks += ["vector"] * node.vector
    marks += [f"unroll {node.unroll}"] * (node.unroll > 1) + [f"jam {node.jam}"] * (node.jam > 1)
    return " ".join((head, *marks, f"({' '.join(map(_node, node.body))})"))


def _ends(function: str, bounds: tuple[Bound, ...]) -> str:
    texts = [str(b.expr) if b.divisor == 1 else f"({b.expr})/{b.divisor}" for b in bounds]
    return texts[0] if len(texts) == 1 else f"{function}({', '.join(texts)})"

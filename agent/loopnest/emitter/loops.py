"""Loops and statements of the IR as C: bounds, pragmas, locals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from agent.errors import ScheduleError
from agent.loopnest.emitter import dividing, extent, streaming
from agent.loopnest.emitter.accumulate import (
    Accumulator,
    accumulators,
    adds_in_itself,
    invariant_updates,
    operator,
    written,
)
from agent.loopnest.emitter.expanded import Aligned, Expanded
from agent.loopnest.emitter.function import array_parameter, identifiers, prototype
from agent.loopnest.emitter.identifiers import Identifiers
from agent.loopnest.emitter.interleaved import distance_name, keep_apart
from agent.loopnest.emitter.lanes import is_lane
from agent.loopnest.emitter.lifetimes import uses
from agent.loopnest.emitter.packing import is_buffer, is_copy
from agent.loopnest.emitter.printer import UNARY, Printer
from agent.loopnest.emitter.streaming import LINE, is_line, line_of, streams
from agent.loopnest.emitter.transposing import helper, helper_name, is_turned, transposition
from agent.loopnest.program import (
    Access,
    Affine,
    Array,
    Binary,
    Bound,
    Derived,
    DType,
    Expr,
    Loop,
    Node,
    Scalar,
    Statement,
    Temporary,
    all_reads,
    loops,
    reads,
    statements,
)

_INTEGER_HELPERS = {  # C99; {0} is the type of iterators; divisors are positive
    "floord": "{0} floord({0} n, {0} d)\n{{\n    return n / d - (n % d < 0);\n}}",
    "ceild": "{0} ceild({0} n, {0} d)\n{{\n    return n / d + (n % d > 0);\n}}",
    "min2": "{0} min2({0} a, {0} b)\n{{\n    return a < b ? a : b;\n}}",
    "max2": "{0} max2({0} a, {0} b)\n{{\n    return a > b ? a : b;\n}}",
}
_INDENT = "    "


def helper_text(name: str, index: str) -> str:
    """The function ``name`` that emitted code calls; ``index`` is the type of iterators."""
    if name in _INTEGER_HELPERS:
        return _INTEGER_HELPERS[name].format(index)
    if text := (streaming.HELPERS | dividing.HELPERS).get(name):
        return text
    return next(helper(dtype) for dtype in DType if is_turned(dtype) and helper_name(dtype) == name)


def indented(lines: Iterable[str]) -> list[str]:
    """``lines`` one level further in; pragmas too."""
    return [_INDENT + line for line in lines]


@dataclass(frozen=True)
class Scope:
    """What is known inside a block.

    Attributes:
        around: the loops around it, outermost first, tightest bounds.
        path: the iterators of the real loops around it.
        held: array elements that locals stand for.
        taken: names of locals in enclosing blocks.
        vector: whether SIMD lanes run the block.
    """

    around: tuple[Loop, ...] = ()
    path: tuple[str, ...] = ()
    held: Mapping[Access, str] = field(default_factory=dict)
    taken: frozenset[str] = frozenset()
    vector: bool = False


@dataclass
class _Block:
    """A C block being written."""

    scope: Scope
    lines: list[str] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    bounds: dict[tuple[bool, tuple[Bound, ...]], str] = field(default_factory=dict)
    distances: set[int] = field(default_factory=set)
    guard: Expr | None = None  # of the statement above, where it still tells the same


class Body:
    """Writes the statements of a kernel; where ``plain``, without locals that hold its sums.

    Attributes:
        helpers: names of functions (``helper_text``) that the text calls.
        functions: the bodies of parallel loops, each before the one that calls it.
    """

    def __init__(
        self, expanded: Expanded, names: Identifiers, *, wide: bool, plain: bool = False
    ) -> None:
        self._program = expanded.program
        self._plain = plain
        self._remainders = expanded.remainders
        self._homes = expanded.homes
        self._shapes = expanded.shapes
        self._dtypes: dict[str, DType] = {x.name: x.dtype for x in expanded.program.declared}
        self._names = names
        self._wide = wide
        self.index = "int64_t" if wide else "int"
        self.helpers: set[str] = set()
        self.functions: list[str] = []

    def block(self, nodes: Sequence[Node], scope: Scope) -> list[str]:
        """The lines of a block: declarations, then ``nodes`` in order."""
        block = _Block(scope, taken=set(scope.taken))
        undeclared = self._declare(block, nodes)
        for node in nodes:
            if isinstance(node, Statement):
                self._statement(block, node, undeclared)
            else:
                self._loop(block, node)
                block.guard = None
        return block.lines

    def check(self, nodes: Sequence[Node], scope: Scope) -> None:
        """Raises what ``block`` raises where a mark cannot be expressed; writes nothing."""
        for node in nodes:
            if isinstance(node, Loop) and any(x.parallel or x.vector for _, x in loops((node,))):
                block = _Block(scope, taken=set(scope.taken))
                loop = self._keep_apart(block, node) if node.vector else node
                tight, inner, _ = self._enter(block, loop)
                self._pragmas(tight, inner)
                self.check(loop.body, inner)

    # Declarations and statements

    def _declare(self, block: _Block, nodes: Sequence[Node]) -> set[str]:
        """Declares the temporaries of the block; returns those declared by their first write."""
        later: set[str] = set()
        for name, home in self._homes.items():
            users = [n for n in nodes if uses(n, name)]
            shape = self._shapes.get(name, ())
            if home != block.scope.path or not users or (shape and name not in written(users)):
                continue
            if not shape and _starts(users[0], name):
                later.add(name)
            else:
                extents = "".join(f"[{n}]" for n in shape)
                whole = is_buffer(name) or is_line(name)
                aligned = " __attribute__((aligned(64)))" if whole else ""
                text = f"{self._dtypes[name].value} {self._names[name]}{extents}{aligned};"
                block.lines.append(text)
        return later

    def _printer(self, scope: Scope, derived: Sequence[Derived] = ()) -> Printer:
        numbers = {d.name: d.value for d in derived}
        return Printer(
            self._names.__getitem__, scope.held, self._dtypes.__getitem__, numbers, self._wide
        )

    def _statement(self, block: _Block, statement: Statement, undeclared: set[str]) -> None:
        printer = self._printer(block.scope, statement.derived)
        text = self._assignment(statement, printer, block.scope)
        if statement.target.array in undeclared:
            undeclared.discard(statement.target.array)
            text = f"{self._dtypes[statement.target.array].value} {text}"
        condition = statement.condition
        if condition is None:
            block.lines.append(text)
        elif condition == block.guard:
            block.lines[-1:] = [_INDENT + text, "}"]
        else:
            block.lines += [f"if ({printer.text(condition)}) {{", _INDENT + text, "}"]
        changes = condition is not None and any(
            a.array == statement.target.array for a in reads(condition)
        )
        block.guard = None if changes else condition

    def _assignment(self, statement: Statement, printer: Printer, scope: Scope) -> str:
        target = printer.access(statement.target)
        if line := line_of(statement):
            self.helpers.add("stream_line")
            return f"stream_line(&{target}, {self._names[line]});"
        if statement.op in ("min", "max"):
            return f"{target} = {self._extreme(statement, printer, scope)};"
        value = self._quotient_added(statement, printer, scope) or printer.text(statement.value)
        return f"{target} {statement.op}= {value};"

    def _quotient_added(self, statement: Statement, printer: Printer, scope: Scope) -> str:
        """What is added up in lanes, where that is a division by a number; else nothing."""
        value, lanes = statement.value, bool(scope.path) and is_lane(scope.path[-1])
        dtype = dividing.divided(value, printer.dtype_of) if lanes else None
        if statement.op not in ("+", "-") or not isinstance(value, Binary) or dtype is None:
            return ""
        self.helpers.add(dividing.name(dtype))
        return dividing.call(dtype, printer.text(value.left), printer.text(value.right, UNARY))

    def _extreme(self, statement: Statement, printer: Printer, scope: Scope) -> str:
        dtype = self._dtypes[statement.target.array]
        old = printer.access(statement.target)
        if dtype.is_float and not scope.vector:
            suffix = "f" if dtype is DType.F32 else ""
            return f"f{statement.op}{suffix}({old}, {printer.text(statement.value)})"
        sign = "<" if statement.op == "min" else ">"
        new = printer.text(statement.value, 8)  # an operand of a comparison
        condition = f"{new} {sign} {old}"
        if dtype.is_float and not self._is_reduced(statement.target, scope):
            condition += f" || {old} != {old}"  # what fmin does where the element is NaN
        return f"{condition} ? {printer.text(statement.value, 1)} : {old}"

    def _is_reduced(self, target: Access, scope: Scope) -> bool:
        """Whether ``target`` is the subject of the SIMD loop's reduction clause."""
        if scope.path[-1] in _names_of(target):
            return False
        home = self._homes.get(target.array, scope.path)
        return target in scope.held or scope.path[-1] not in home

    # Loops

    def _loop(self, block: _Block, loop: Loop) -> None:
        around = block.scope.around
        self._remainder(block, loop)
        if is_copy(loop.iterator) and (call := self._transposed(block, loop)):
            block.lines.append(call)
            return
        if loop.vector:
            loop = self._keep_apart(block, loop)
        tight, scope, carried = self._enter(block, loop)
        begin = self._bound(block, loop.iterator, tight.lower, around, lower=True)
        end = self._bound(block, loop.iterator, tight.upper, around, lower=False)
        lines = [*self._pragmas(tight, scope), f"for ({self._header(tight, begin, end)}) {{"]
        inside = self._packed(loop, scope) or self.block(loop.body, scope)
        if self._is_apart(loop, scope):
            inside = [self._function("body", loop, scope, inside)]
        lines += [*indented(inside), "}"]
        lines = self._fenced(loop, scope, lines)
        lines = self._carry(carried, scope, block.scope, lines)
        if carried and not extent.runs(tight, around):
            lines = [f"if ({self._until(begin.text, end)}) {{", *indented(lines), "}"]
        block.lines += lines

    def _fenced(self, loop: Loop, scope: Scope, lines: list[str]) -> list[str]:
        """The lines of a loop; threads then wait for what they stream, before they meet."""
        if not streams(loop) or not (loop.parallel or len(scope.path) == 1):
            return lines
        self.helpers.add("stream_fence")
        if not loop.parallel:
            shared = any(x.parallel and streams(x) for _, x in loops(loop.body))
            return lines if shared else [*lines, "stream_fence();"]
        lines[0] = lines[0].replace("#pragma omp parallel for", "#pragma omp for") + " nowait"
        inside = [*lines, "stream_fence();"]
        return ["#pragma omp parallel", "{", *indented(inside), "}"]

    def _enter(self, block: _Block, loop: Loop) -> tuple[Loop, Scope, tuple[Accumulator, ...]]:
        """``loop`` with the bounds that matter, what is known inside, the locals it carries."""
        around = block.scope.around
        tight = loop.but(
            lower=extent.tightest(loop.lower, around, lower=True),
            upper=extent.tightest(loop.upper, around, lower=False),
        )
        carried = self._accumulators(tight, block.scope)
        held = self._locals(block, carried)
        scope = Scope(
            (*around, tight),
            (*block.scope.path, loop.iterator),
            {**block.scope.held, **held},
            frozenset(block.taken),
            loop.vector,
        )
        return tight, scope, carried

    def _accumulators(self, loop: Loop, outside: Scope) -> tuple[Accumulator, ...]:
        if self._plain:
            return ()
        return accumulators(self._program, loop, outside.around, frozenset(outside.held))

    def _keep_apart(self, block: _Block, loop: Loop) -> Loop:
        """Declares the distances that are hidden from the compiler in ``loop``."""
        loop, distances = keep_apart(self._program, loop)
        for distance in sorted(distances - block.distances):
            name = self._names.add(distance_name(distance))
            block.lines.append(f"{self.index} {name} = {distance};")
            block.lines.append(f'__asm__("" : "+r"({name}));  /* see interleaved.py */')
        block.distances |= distances
        return loop

    def _is_apart(self, loop: Loop, scope: Scope) -> bool:
        """Whether the body of ``loop`` becomes a function, for what ``restrict`` says in it."""
        innermost = all(isinstance(node, Statement) for node in loop.body)
        last = len(scope.around) > 1 and scope.around[-2].collapse
        shared = last if last or loop.collapse else loop.parallel
        return shared and not innermost and not self._shared_updates(loop, scope)

    def _packed(self, loop: Loop, scope: Scope) -> list[str]:
        """The body of a loop that packs: fills its buffers, and goes on in a function.

        There they are ``restrict`` parameters; gcc holds no sums in registers beside a buffer that
        the same function has filled.
        """
        fills = [n for n in loop.body if isinstance(n, Loop) and is_copy(n.iterator)]
        if not fills or is_copy(loop.iterator) or self._shared_updates(loop, scope):
            return []
        rest = self.block([n for n in loop.body if n not in fills], scope)
        return [*self.block(fills, scope), self._function("packed", loop, scope, rest)]

    def _transposed(self, block: _Block, nest: Loop) -> str:
        """The call that fills a buffer by transposing, where the last loops of a copy do that."""
        statement = next(s for _, s in statements(nest.body))
        source, target = next(all_reads(statement)), statement.target
        dtype = self._dtypes[target.array]
        shapes = self._program.array(source.array).shape, self._shapes[target.array]
        found = transposition(nest, dtype, *shapes)
        if found is None:
            return ""
        self.helpers.add(helper_name(dtype))
        around, ends, counts = block.scope.around, {}, []
        for loop in (found.rows, found.columns):
            lower = extent.tightest(loop.lower, around, lower=True)
            upper = extent.tightest(loop.upper, around, lower=False)
            begin = self._bound(block, loop.iterator, lower, around, lower=True)
            end = self._bound(block, loop.iterator, upper, around, lower=False)
            counts.append(self._count(begin, end))
            ends[loop.iterator] = lower[0].expr
        printer = self._printer(block.scope)
        one, two = (f"&{printer.access(a.substitute(ends))}" for a in (source, target))
        passed = (*counts, one, f"{found.source_row}", two, f"{found.target_row}")
        return f"{helper_name(dtype)}({', '.join(passed)});"

    def _count(self, begin: _End, end: _End) -> str:
        """How many iterations there are from ``begin`` to ``end``."""
        if begin.value is not None and end.value is not None:
            return self._printer(Scope()).affine(end.value - begin.value + 1)
        return f"{end.text} - {_operand(begin.text)} + 1"

    def _function(self, what: str, loop: Loop, scope: Scope, lines: list[str]) -> str:
        """Makes ``lines``, from the body of ``loop``, a function; returns the call."""
        name = self._names.fresh(f"{loop.iterator}_{what}")  # ends like no name of a local
        used = identifiers(lines)
        visible = self._visible(scope) | (self._buffers(scope) if what == "packed" else {})
        passed = {n: text for n, text in visible.items() if n in used}
        head = prototype(f"static inline void {name}", list(passed.values()))
        self.functions.append("\n".join([head, "{", *indented(lines), "}"]))
        return f"{name}({', '.join(passed)});"

    def _visible(self, scope: Scope) -> dict[str, str]:
        """What the body of the innermost loop can use from outside: identifiers, as parameters."""
        program, changed = self._program, written(self._program.body)
        found = {
            self._names[a.name]: array_parameter(a, self._names[a.name], changed=a.name in changed)
            for a in program.arguments
        }
        outer = [t for t in program.temporaries if len(self._homes[t.name]) < len(scope.path)]
        values: list[Scalar | Temporary] = [*program.scalars, *outer]
        for item in values:
            name = self._names[item.name]
            found[name] = f"{item.dtype.value} {name}"
            if item.name in self._shapes:
                array = Array(item.name, item.dtype, self._shapes[item.name])
                found[name] = array_parameter(array, name, changed=False)  # an outer buffer
        for iterator in scope.path:
            found[self._names[iterator]] = f"{self.index} {self._names[iterator]}"
        return found

    def _buffers(self, scope: Scope) -> dict[str, str]:
        """What the innermost loop has packed: identifiers, as parameters."""
        found = {}
        for name in (n for n in self._shapes if self._homes[n] == scope.path and is_buffer(n)):
            buffer = Array(name, self._dtypes[name], self._shapes[name])
            found[self._names[name]] = array_parameter(buffer, self._names[name], changed=False)
        return found

    def _remainder(self, block: _Block, loop: Loop) -> None:
        """Writes where a remainder loop begins, or where a line does at which a loop ends."""
        first, last = (str(bounds[0].expr) for bounds in (loop.lower, loop.upper))
        name = first if first in self._remainders else last.removesuffix(" - 1")
        rest = self._remainders.get(name)
        if rest is None or (isinstance(rest, Aligned) and name == first):
            return
        loop, around = rest.of, block.scope.around
        lower = extent.tightest(loop.lower, around, lower=True)
        upper = extent.tightest(loop.upper, around, lower=False)
        begin = self._bound(block, loop.iterator, lower, around, lower=True)
        if isinstance(rest, Aligned):
            block.lines += self._aligned(name, rest, begin, block.scope)
            return
        end = self._bound(block, loop.iterator, upper, around, lower=False)
        stride = loop.step * rest.factor
        count = f"({end.text} - {_operand(begin.text)} + {loop.step}) / {stride} * {stride}"
        block.lines.append(f"const {self.index} {self._names[name]} = {begin.text} + {count};")

    def _aligned(self, name: str, start: Aligned, begin: _End, scope: Scope) -> list[str]:
        """Declares where the first line of ``start`` begins."""
        printer, loop = self._printer(scope), start.of
        if begin.value is None:  # a local
            names = {loop.iterator: begin.text}
            printer = replace(printer, names=lambda n: names.get(n) or self._names[n])
            element = printer.access(start.target)
        else:
            element = printer.access(start.target.substitute({loop.iterator: begin.value}))
        size = LINE // start.width
        gap = f"(int)(-(uintptr_t)&{element} % {LINE} / {size})"
        before = "" if begin.text == "0" else f"{begin.text} + "
        return [f"const {self.index} {self._names[name]} = {before}{gap};"]

    def _locals(self, block: _Block, carried: Sequence[Accumulator]) -> dict[Access, str]:
        found = {}
        for held in carried:
            lane = f"[{self._names[held.lanes.iterator]}]" if held.lanes else ""
            found[held.target] = self._local(block, "acc") + lane
        return found

    def _local(self, block: _Block, wanted: str) -> str:
        name = self._names.apart(wanted, block.taken)
        block.taken.add(name)
        return name

    def _carry(
        self, carried: Sequence[Accumulator], inside: Scope, outside: Scope, lines: list[str]
    ) -> list[str]:
        """``lines`` between the loads and the stores of what locals hold."""
        printer = self._printer(outside)
        loads, stores = [], []
        for held in carried:
            dtype, name = self._dtypes[held.target.array].value, inside.held[held.target]
            element = printer.access(held.target)
            if held.lanes is None:
                loads.append(f"{dtype} {name} = {element};")
                stores.append(f"{element} = {name};")
            else:
                count = extent.constant_upper(held.lanes)
                loads.append(f"{dtype} {name.partition('[')[0]}[{(count or 0) + 1}];")
                size = self._dtypes[held.target.array].size
                loads += self._in_lanes(held.lanes, size, f"{name} = {element};")
                stores += self._in_lanes(held.lanes, size, f"{element} = {name};")
        return [*loads, *lines, *stores]

    def _in_lanes(self, lanes: Loop, size: int, line: str) -> list[str]:
        """``line``, which moves an element of ``size`` bytes, in every lane."""
        name = self._names[lanes.iterator]
        stop = (extent.constant_upper(lanes) or 0) + 1
        head = f"for ({self.index} {name} = 0; {name} < {stop}; {name}++) {{"
        return [f"#pragma omp simd{_simdlen(lanes, size)}", head, _INDENT + line, "}"]

    def _header(self, loop: Loop, begin: _End, end: _End) -> str:
        name = self._names[loop.iterator]
        stop = self._until(name, end)
        step = f"{name}++" if loop.step == 1 else f"{name} += {loop.step}"
        return f"{self.index} {name} = {begin.text}; {stop}; {step}"

    def _until(self, name: str, end: _End) -> str:
        """The condition that ``name`` is not beyond ``end``."""
        if end.value is not None and (end.value.const or end.value.is_constant):
            return f"{name} < {self._printer(Scope()).affine(end.value + 1)}"
        return f"{name} <= {end.text}"

    def _bound(
        self,
        block: _Block,
        iterator: str,
        bounds: tuple[Bound, ...],
        around: tuple[Loop, ...],
        *,
        lower: bool,
    ) -> _End:
        """The text of a bound; a local where it takes more than a sum."""
        if len(bounds) == 1 and bounds[0].divisor == 1:
            return _End(self._printer(block.scope).affine(bounds[0].expr), bounds[0].expr)
        key = (lower, bounds)
        if key not in block.bounds:
            parts = [self._quotient(b, around, lower=lower) for b in bounds]
            text, choose = parts[0], "max2" if lower else "min2"
            for part in parts[1:]:
                self.helpers.add(choose)
                text = f"{choose}({text}, {part})"
            name = self._local(block, f"{self._names[iterator]}_{'lo' if lower else 'hi'}")
            block.lines.append(f"const {self.index} {name} = {text};")
            block.bounds[key] = name
        return _End(block.bounds[key], None)

    def _quotient(self, bound: Bound, around: tuple[Loop, ...], *, lower: bool) -> str:
        text = self._printer(Scope()).affine(bound.expr)
        if bound.divisor == 1:
            return text
        if extent.least(bound.expr, around) >= 0:
            text = self._printer(Scope()).affine(bound.expr + (bound.divisor - 1) * lower)
            return f"{_operand(text)} / {bound.divisor}"
        helper = "ceild" if lower else "floord"
        self.helpers.add(helper)
        return f"{helper}({text}, {bound.divisor})"

    # Marks

    def _pragmas(self, loop: Loop, scope: Scope) -> list[str]:
        if not (loop.parallel or loop.vector):
            return [f"#pragma GCC unroll {loop.unroll}"] if loop.unroll > 1 else []
        if loop.unroll > 1:
            raise ScheduleError(
                f"loop {loop.iterator}: OpenMP allows no unroll pragma on a parallel or SIMD loop",
                hint=f"Leave out the step: unroll {loop.iterator} {loop.unroll}.",
            )
        shared = f"schedule(static{f', {loop.cyclic}' if loop.cyclic else ''})"
        kind = {
            (True, False): f"parallel for {'collapse(2) ' * loop.collapse}{shared}",
            (False, True): f"simd{self._widest(loop)}",
            (True, True): f"parallel for simd {shared}",
        }[loop.parallel, loop.vector]
        return [f"#pragma omp {kind}{self._clauses(loop, scope)}"]

    def _widest(self, loop: Loop) -> str:
        """``_simdlen`` of a loop over lanes, by the widest elements that it moves."""
        if not is_lane(loop.iterator):
            return ""
        moved = {name for _, s in statements((loop,)) for name in (s.target.array, *s.reads)}
        return _simdlen(loop, max(self._dtypes[name].size for name in moved))

    def _clauses(self, loop: Loop, scope: Scope) -> str:
        if extent.runs_once(loop, scope.around[:-1]):  # a clause would hide what was there before
            return ""
        for update in invariant_updates(loop, self._remainders):
            array = update.target.array
            known = array in self._homes or array in loop.private
            if update.target not in scope.held and not known:
                raise ScheduleError(
                    f"loop {loop.iterator}: all its iterations accumulate into elements of "
                    f"{array}, which OpenMP cannot share out",
                    hint="Mark a loop on which those elements depend, or give every thread a copy: "
                    f"parallelize {loop.iterator} {array}.",
                )
        names: dict[str, list[str]] = {}
        for name, updates in self._shared_updates(loop, scope).items():
            clause = operator(update.op for update in updates)
            if not clause or self._is_read(loop, name):
                raise ScheduleError(f"loop {loop.iterator}: {name} is not one kind of reduction")
            if clause in "+*" and adds_in_itself(self._dtypes[updates[0].target.array]):
                raise ScheduleError(
                    f"loop {loop.iterator}: OpenMP adds up {updates[0].target.array} in a type of "
                    "less than 32 bits, where sums may overflow",
                    hint="Let it have 32 bits, or be unsigned.",
                )
            names.setdefault(clause, []).append(name)
        for private in loop.private:
            ops = [s.op for _, s in statements(loop.body) if s.target.array == private]
            section = "".join(f"[:{n}]" for n in self._program.array(private).shape)
            names.setdefault(operator(ops), []).append(self._names[private] + section)
        return "".join(f" reduction({op}:{','.join(found)})" for op, found in names.items())

    def _is_read(self, loop: Loop, name: str) -> bool:
        """Whether ``loop`` reads the temporary with identifier ``name``, so a partial result."""
        found = {r.array for _, s in statements(loop.body) for r in all_reads(s)}
        return name in {self._names[n] for n in found & self._homes.keys()}

    def _shared_updates(self, loop: Loop, scope: Scope) -> dict[str, list[Statement]]:
        """Locals declared outside of ``loop`` that it writes, with their updates."""
        updates: dict[str, list[Statement]] = {}
        for _, statement in statements(loop.body):
            target = statement.target
            if loop.iterator in _names_of(target):
                continue
            if target in scope.held:
                updates.setdefault(scope.held[target], []).append(statement)
            elif loop.iterator not in self._homes.get(target.array, (loop.iterator,)):
                updates.setdefault(self._names[target.array], []).append(statement)
        return updates


@dataclass(frozen=True)
class _End:
    """A bound as text, and as a sum of iterators where it is one."""

    text: str
    value: Affine | None


def _simdlen(lanes: Loop, size: int) -> str:
    """The clause that asks for vectors of 64 bytes, where a block of lanes fills them.

    By itself gcc (12, as tried) takes half of them on Intel's CPUs: half the speed where arithmetic
    is what bounds. Where a CPU has no such vectors, it takes those that there are.
    """
    count = (extent.constant_upper(lanes) or 0) + 1
    return f" simdlen({LINE // size})" if count * size >= LINE else ""


def _operand(text: str) -> str:
    """``text`` where it is subtracted or divided."""
    return f"({text})" if " " in text or text.startswith("-") else text


def _names_of(access: Access) -> frozenset[str]:
    return frozenset[str]().union(*(s.names for s in access.subscripts))


def _starts(node: Node, name: str) -> bool:
    """Whether ``node`` is a plain first write of the temporary ``name``."""
    return (
        isinstance(node, Statement)
        and node.target.array == name
        and not node.op
        and node.condition is None
        and all(r.array != name for r in all_reads(node))
    )

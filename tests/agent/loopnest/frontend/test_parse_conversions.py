"""The conversions in the tree are those that a compiler makes."""

import random
import shutil
import subprocess

import pytest

from agent.loopnest.frontend.ctree import (
    AssignE,
    BinaryE,
    CastE,
    ConditionalE,
    IndexE,
    Name,
    Number,
    UnaryE,
)
from agent.loopnest.frontend.parse import parse_text

pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc")

TYPES = (
    "_Bool|char|signed char|unsigned char|short|unsigned short|int|unsigned int|long|"
    "unsigned long|long long|unsigned long long|float|double|long double"
).split("|")
WHOLE = TYPES[:12]


def run(place, text):
    """The lines that a program prints."""
    source, program = place / "p.c", place / "p"
    source.write_text(text)
    command = ["gcc", "-std=gnu11", "-w", "-fwrapv", "-ffp-contract=off", "-o", program, source]
    subprocess.run([*command, "-lm"], check=True)
    return subprocess.run([program], check=True, capture_output=True, text=True).stdout.split("\n")


def expressions(text):
    """The expressions that are statements of the first function of a text."""
    unit = parse_text(text, "k.c")
    assert unit.errors == ()
    return [s.expression for s in next(iter(unit.functions.values())).body.items]


def test_two_numbers_are_computed_in_the_type_that_a_compiler_takes(tmp_path):
    variables = "".join(f"{t} v{k};\n" for k, t in enumerate(TYPES))
    pairs = [f"v{a} + v{b}" for a in range(len(TYPES)) for b in range(len(TYPES))]
    shifts = [f"v{a} << v{b}" for a in range(len(WHOLE)) for b in range(len(WHOLE))]
    names = ", ".join(f'{t}: "{t}"' for t in TYPES)
    prints = "".join(f"puts(_Generic({e}, {names}));\n" for e in pairs + shifts)
    told = run(tmp_path, f"#include <stdio.h>\n{variables}int main(void) {{\n{prints}}}")
    steps = [e.replace("+", "+=").replace("<<", "<<=") for e in pairs + shifts]
    body = ";\n".join(pairs + shifts + steps)
    read = expressions(f"{variables}void f(void) {{\n{body};\n}}")
    count = len(pairs + shifts)
    assert [e.type.text for e in read[:count]] == told[:count]
    assert [e.computed.text for e in read[count:]] == told[:count]


class Writer:
    """Random expressions over ``v0``, ``v1``, ... of all types, without undefined behaviour."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def whole(self, deep):
        """One of integers."""
        some = self.random.randrange(12)
        if deep == 0:
            return self.random.choice([f"v{some}", "'a'", "7", "200u", "3l", "0x80", "K", "SQ(v4)"])
        a, b = self.whole(deep - 1), self.whole(deep - 1)
        forms = "+ - * & | ^ < >= == != && ||".split()
        return self.random.choice(
            [f"({a} {op} {b})" for op in forms]
            + [f"({a} {op} (({b} & 7) + 1))" for op in ("/", "%", "<<", ">>")]
            + [f"({op} {a})" for op in "+-~!"]
            + [f"(({t}){a})" for t in WHOLE[:8]]
            + [f"({a} ? {b} : {a})", f"({a}, {b})", f"t[{a} & 3]", f"(int)sizeof({a})"]
            + [f"(unsigned char)({a} & 1 ? 1.5f : {b} & 15)"]
        )

    def number(self, deep):
        """One of any numbers."""
        if deep == 0:
            return self.random.choice(["v12", "v13", "1.5", "2.5f", "1e-3", self.whole(1)])
        a, b = self.number(deep - 1), self.number(deep - 1)
        return self.random.choice(
            [f"({a} {op} {b})" for op in "+-*>"]
            + [f"({a} > {b} ? {a} : {b})", f"((float){a})", f"(- {a})", f"sqrtf(fabs({b}))"]
        )

    def step(self):
        """One that changes a variable."""
        some, a = self.random.randrange(1, 12), self.whole(2)
        steps = [f"v{some} {op} {a}" for op in "= += -= *= &= |= ^=".split()]
        steps += [f"v{some} {op} ({a} & 7) + 1" for op in "/= %= <<= >>=".split()]
        steps += [f"v{some}++", f"v{some}--", f"++v{some}", f"--v{some}"]
        b = self.number(2)
        steps += [f"v{float_} {op} {b}" for float_ in (12, 13) for op in ("=", "+=", "*=")]
        return self.random.choice(steps)


def printed(node):
    """An expression as C in which every conversion is written."""
    match node:
        case Number():
            return f"(({node.type.text}){node.text})"
        case Name():
            return node.name
        case CastE():
            return f"(({node.type.text}){printed(node.operand)})"
        case IndexE():
            return f"{printed(node.base)}[{printed(node.index)}]"
        case UnaryE() if node.op.startswith("p"):
            return f"({printed(node.operand)}{node.op[1:]})"
        case UnaryE():
            return f"({node.op} {printed(node.operand)})"
        case BinaryE():
            return f"({printed(node.left)} {node.op} {printed(node.right)})"
        case AssignE() if node.op:
            target = printed(node.target)
            value = f"(({node.computed.text}){target}) {node.op} {printed(node.value)}"
            return f"({target} = (({node.type.text})({value})))"
        case AssignE():
            return f"({printed(node.target)} = {printed(node.value)})"
        case ConditionalE():
            return f"({printed(node.condition)} ? {printed(node.yes)} : {printed(node.no)})"
        case _:
            called = ", ".join(map(printed, node.arguments))
            return f"{node.callee.name}({called})"


def test_a_tree_printed_as_c_gives_the_same_values_and_types(tmp_path):
    writer = Writer(11)
    wanted = [writer.whole(3) for _ in range(50)] + [writer.number(3) for _ in range(30)]
    wanted += [writer.step() for _ in range(50)]
    types = [t for t in TYPES if t != "long double"]
    head = (
        "#include <math.h>\n#include <stdio.h>\n#include <string.h>\n"
        "#define SQ(x) ((x) * (x))\nenum { K = 5 };\n"
        + "".join(f"{t} v{k};\n" for k, t in enumerate(types))
        + "short t[4] = {300, -2, 7, -30000};\n"
    )
    body = ";\n".join(wanted)
    again = [printed(e) for e in expressions(f"{head}void f(void) {{\n{body};\n}}")]
    setting = "".join(f"v{k} = {s};" for k, s in enumerate(range(-7, 7)))
    names = ", ".join(f'{t}: "{t}"' for t in types)
    lines = []
    for one in (wanted, again):
        for e in one:
            shown = f'printf("%s %.17g", _Generic(({e}), {names}), (double)({e}));'
            state = "".join(f'printf(" %.17g", (double)v{k});' for k in range(len(types)))
            lines.append(f'reset(); {shown} {state} puts("");')
    program = (
        f"{head}void reset(void) {{ {setting} }}\nint main(void) {{\n" + "\n".join(lines) + "\n}"
    )
    told = run(tmp_path, program)
    for number, text in enumerate(wanted):
        assert told[number] == told[len(wanted) + number], text

"""Loops of public suites put into functions of their own, mechanically: text in, text out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_INTEGER = re.compile(r"\b(int|long|short|char|unsigned|signed|size_t|ssize_t|u?int\w*_t|bool)\b")
_NUMBERS = "int|long|short|char|unsigned|signed|float|double|real_t|size_t|u?int\\d+_t"
_DECLARATION = re.compile(
    rf"^\s*(register |const |static )*({_NUMBERS})\b[^;(){{}}]*;", re.MULTILINE
)
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*|(\"(?:\\.|[^\"\\\n])*\")", re.DOTALL)
_WORDS = frozenset(
    "for if else while do return break continue goto switch case default sizeof register const "
    "static volatile struct union int long short char unsigned signed float double void".split()
)


@dataclass(frozen=True)
class Function:
    """A function in a text: ``text[start:end]``, its body with braces ``text[body:end]``."""

    name: str
    parameters: str
    start: int
    body: int
    end: int

    @property
    def integers(self) -> list[str]:
        """Names of its parameters that are whole numbers, no arrays or pointers."""
        return [
            re.findall(r"\w+", part)[-1]
            for part in split(self.parameters)
            if _INTEGER.search(part) and not re.search(r"[*\[(]", part) and " " in part.strip()
        ]


def without_comments(text: str) -> str:
    """``text`` with blanks for its comments; lines and columns stay."""
    return _COMMENT.sub(lambda m: m[1] or re.sub(r"[^\n]", " ", m[0]), text)


def functions(text: str) -> list[Function]:
    """The functions defined in ``text``, which has no comments."""
    found, at = [], 0
    while (brace := text.find("{", at)) >= 0:
        end = closing(text, brace)
        head = text[at:brace].rstrip()
        if head.endswith(")") and (name := _name(text, at, at + len(head))):
            found.append(Function(*name, brace, end))
        at = end
    return found


def _name(text: str, begin: int, end: int) -> tuple[str, str, int] | None:
    """Name, parameters and start of the function whose parameters end before ``end``."""
    depth, at = 0, end
    while at > begin:
        at -= 1
        depth += {")": 1, "(": -1}.get(text[at], 0)
        if depth == 0:
            break
    if not (named := re.search(r"(\w+)\s*$", text[begin:at])):
        return None
    before = begin + named.start()
    start = max(text.rfind(c, begin, before) for c in ';}>"')
    lines = re.compile(r"(\s*#[^\n]*(?:\\\n[^\n]*)*\n)*\s*").match(text, max(start + 1, begin))
    return named[1], text[at + 1 : end - 1], lines.end() if lines else begin


def closing(text: str, at: int) -> int:
    """The position after the bracket that closes the one at ``at``; the text's end without one."""
    opening, close = text[at], {"{": "}", "(": ")", "[": "]"}[text[at]]
    depth = 0
    for n in range(at, len(text)):
        depth += (text[n] == opening) - (text[n] == close)
        if depth == 0:
            return n + 1
    return len(text)


def split(text: str) -> list[str]:
    """``text`` at its commas that stand in no bracket."""
    parts, depth, last = [], 0, 0
    for n, c in enumerate(text):
        depth += (c in "([{") - (c in ")]}")
        if c == "," and depth == 0:
            parts.append(text[last:n])
            last = n + 1
    return [*parts, text[last:]]


# --- TSVC -------------------------------------------------------------------------------------

_ARRAYS = {
    **dict.fromkeys("a b c d e x".split(), "real_t {}[LEN_1D]"),
    **dict.fromkeys("aa bb cc tt".split(), "real_t {}[LEN_2D][LEN_2D]"),
    "flat_2d_array": "real_t {}[LEN_2D*LEN_2D]",
    "indx": "int {}[LEN_1D]",
    "xx": "real_t {}[LEN_2D*LEN_2D]",
    "yy": "real_t {}[LEN_2D*LEN_2D]",
}
_TSVC_SIZES = {"s174": {"M": 16000}, "s4116": {"j": 128, "inc": 1}}  # as its main gives them
_ARGUMENT = re.compile(
    r"^\s*(?P<type>int|real_t)\s*(?P<array>\*)?\s*(__restrict__)?\s*(?P<name>\w+)\s*=\s*"
    r"(\*\(int\*\)func_args->arg_info|func_args->arg_info|x->\w)\s*;",
    re.MULTILINE,
)
_HEAD = """#include <math.h>
#define LEN_1D 32000
#define LEN_2D 256
#define ABS fabsf
typedef float real_t;
"""


def tsvc_files(text: str) -> dict[str, tuple[str, dict[str, int]]]:
    """For each loop of TSVC_2's ``tsvc.c``: a file with its function, and the sizes of that."""
    text = without_comments(text)
    found = functions(text)
    helpers = {f.name: text[f.start : f.end] for f in found if "args_t" not in f.parameters}
    return {
        f.name: _tsvc_file(f.name, text[f.body + 1 : f.end - 1], helpers)
        for f in found
        if f.parameters.startswith("struct args_t") and "for (int nl" in text[f.body : f.end]
    }


def _tsvc_file(name: str, body: str, helpers: dict[str, str]) -> tuple[str, dict[str, int]]:
    loop = body.index("for (int nl")
    brace = body.index("{", closing(body, body.index("(", loop)))
    before, inside = body[:loop], body[brace + 1 : closing(body, brace) - 1]
    arguments = list(_ARGUMENT.finditer(before))
    given = [m["name"] for m in arguments if not m["array"] and m["type"] == "int"]
    parameters = [
        f"{m['type']} {m['name']}" + ("[LEN_1D]" if m["array"] else "") for m in arguments
    ]
    before = _ARGUMENT.sub("", before)
    before = re.sub(
        r"^\s*(struct\s*\{|initialise_arrays|gettimeofday)[^\n]*", "", before, flags=re.MULTILINE
    )
    inside = re.sub(r"\bdummy\(([^;]*)\);", _result, inside)
    returned = re.search(r"return ([^;(]+);", body[closing(body, brace) :])
    if returned and "result[0]" not in inside:
        inside += f"result[0] = {returned[1]};"
    used = set(re.findall(r"\w+", before + inside)) - set(given)
    local = set(re.findall(r"\b(?:int|real_t)\b\s*\*?\s*(\w+)", before))
    parameters += [_ARRAYS[a].format(a) for a in _ARRAYS if a in used - local]
    if "result" in used:
        parameters.append("real_t result[1]")
    called = [code for helper, code in helpers.items() if helper in used]
    text = "\n".join(
        [
            *(_HEAD, *called, f"void {name}({', '.join(parameters)})", "{", before.strip()),
            *("#pragma scop", inside.strip(), "#pragma endscop", "}", ""),
        ]
    )
    return text, _TSVC_SIZES.get(name) or dict.fromkeys(given, 1)


def _result(call: re.Match[str]) -> str:
    """What ``dummy`` is given last leaves the function, unless it is a number."""
    last = split(call[1])[-1].strip()
    return "" if re.fullmatch(r"[\d.]+", last) else f"result[0] = {last};"


# --- Pluto's tests ----------------------------------------------------------------------------

_EXTENTS = {1: 1024, 2: 512, 3: 256}  # of arrays that a test does not declare, at least
_MACROS = {
    "min": "#define min(x, y) ((x) < (y) ? (x) : (y))",
    "max": "#define max(x, y) ((x) > (y) ? (x) : (y))",
    "floord": "#define floord(n, d) (((n) < 0) ? -((-(n) + (d) - 1) / (d)) : (n) / (d))",
    "ceild": "#define ceild(n, d) (((n) < 0) ? -(-(n) / (d)) : ((n) + (d) - 1) / (d))",
}


def pluto_file(text: str) -> tuple[str, str]:
    """The function's name and the file's text for one of Pluto's tests, which has a region.

    A region in a function goes into a function of its own in place of that, with its parameters
    and declarations. Statements without a function get one, whose parameters are what they use:
    pointers to rows of fixed extents (some tests begin before the first element), whole numbers
    that bound loops or stand in subscripts, and numbers. Numbers that they store to are global.
    """
    text = without_comments(text)
    region = re.search(r"#\s*pragma\s+scop(.*?)#\s*pragma\s+endscop", text, re.DOTALL)
    if region is None:
        raise ValueError("the text has no region")
    for f in functions(text):
        if f.body < region.start() < f.end:
            return "region", _kept(text, f, region)
    return "region", _made(text, region[1])


def _kept(text: str, f: Function, region: re.Match[str]) -> str:
    parameters = "" if f.name == "main" else f.parameters
    declared = [m[0].strip() for m in _DECLARATION.finditer(text, f.body + 1, region.start())]
    made = [f"void region({parameters or 'void'})", "{", *declared, region[0], "}"]
    return "\n".join([text[: f.start], *made, text[f.end :]])


def _made(text: str, region: str) -> str:
    head = "\n".join(re.findall(r"^\s*#\s*(?:include|define)[^\n]*", text, re.MULTILINE))
    headers = " ".join(_headers(region))
    names = dict.fromkeys(re.findall(r"(?<![\w.])[A-Za-z_]\w*", region))
    ranks = {n: rank for n in names if (rank := _rank(region, n))}
    called = set(re.findall(r"(\w+)\s*\(", region))
    stored = set(re.findall(r"\b([A-Za-z_]\w*)\s*(?:[-+*/]?=(?!=)|\+\+|--)", region))
    locals_ = set(re.findall(rf"\b(?:{_NUMBERS})\s+(\w+)", region))
    indices = set(
        re.findall(r"[A-Za-z_]\w*", headers + " ".join(re.findall(r"\[([^\]]*)", region)))
    )
    free = [n for n in names if n not in _WORDS | called | locals_ and n not in head]
    largest = max(map(int, re.findall(r"(?<![\w.])\d+(?![\w.])", headers)), default=0)
    parameters: list[str] = []
    declared: list[str] = []
    leaving: list[str] = []
    for n in free:
        kind = "int" if n in indices else "double"
        if n in ranks:
            extent = max(_EXTENTS.get(ranks[n], 110), largest + 16)
            parameters.append(f"{kind} (*{n})" + f"[{extent}]" * (ranks[n] - 1))
        elif n in stored:
            (declared if kind == "int" else leaving).append(f"{kind} {n};")
        else:
            parameters.append(f"{kind} {n}")
    macros = [_MACROS[n] for n in _MACROS if n in called and n not in head]
    return "\n".join(
        [
            *(
                "#include <math.h>",
                head,
                *macros,
                *leaving,
                f"void region({', '.join(parameters)})",
                "{",
            ),
            *(*declared, "#pragma scop", region.strip(), "#pragma endscop", "}", ""),
        ]
    )


def _headers(region: str) -> Iterator[str]:
    """What stands in the brackets of each ``for``."""
    for loop in re.finditer(r"\bfor\s*(?=\()", region):
        yield region[loop.end() : closing(region, loop.end())]


def _rank(region: str, name: str) -> int:
    """The most subscripts that follow ``name``; 0 for none."""
    most = 0
    for use in re.finditer(rf"\b{name}\b(?=\s*\[)", region):
        at, rank = use.end(), 0
        while subscript := re.compile(r"\s*\[").match(region, at):
            at, rank = closing(region, subscript.end() - 1), rank + 1
        most = max(most, rank)
    return most

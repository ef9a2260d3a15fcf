"""Whole cache lines written past the caches, by a loop in SIMD lanes.

    for (j = 0; j < n; j++)                 for (j = 0; j < first; j++)  // to where a line begins
      c[i][j] = a[i][j] + b[i][j];            c[i][j] = a[i][j] + b[i][j];
                                      ->    for (; j < n - 15; j += 16) {
                                              for (l = 0; l < 16; l++)   // simd
                                                line[l] = a[i][j + l] + b[i][j + l];
                                              stream_line(&c[i][j], line);
                                            }
                                            ... and the rest

A store of other kinds first reads the line that it changes: an array that is written once costs as
much again. Compilers keep ``line`` in registers. Such stores become visible to other threads in any
order: every thread waits for its own (``stream_fence``) before it meets the others.
"""

from __future__ import annotations

from dataclasses import replace

from agent.loopnest.emitter.expanded import Aligned, Expansion, groups
from agent.loopnest.emitter.lanes import block_of
from agent.loopnest.program import (
    Access,
    Affine,
    Bound,
    Loop,
    Node,
    Read,
    Statement,
    map_all_accesses,
    statements,
)

LINE = 64  # bytes of a cache line
_SUFFIX = "#line"

# C99 for gcc (x86) and clang; other compilers store as usual.
HELPERS = {
    "stream_line": """void stream_line(void *to, const void *from)
{
#if defined(__clang__) && defined(__has_builtin)
#if __has_builtin(__builtin_nontemporal_store)
    typedef long long part __attribute__((vector_size(16), may_alias));
    for (int n = 0; n < 4; n++) {
        __builtin_nontemporal_store(((const part *)from)[n], (part *)to + n);
    }
    return;
#endif
#elif defined(__GNUC__) && defined(__AVX__)
    typedef long long part __attribute__((vector_size(32)));
    typedef part any __attribute__((may_alias));
    __builtin_ia32_movntdq256((part *)to, ((const any *)from)[0]);
    __builtin_ia32_movntdq256((part *)to + 1, ((const any *)from)[1]);
    return;
#elif defined(__GNUC__) && defined(__SSE2__)
    typedef long long part __attribute__((vector_size(16)));
    typedef part any __attribute__((may_alias));
    for (int n = 0; n < 4; n++) {
        __builtin_ia32_movntdq((part *)to + n, ((const any *)from)[n]);
    }
    return;
#endif
    __builtin_memcpy(to, from, 64);
}""",
    "stream_fence": """void stream_fence(void)
{
#if defined(__SSE2__)
    __builtin_ia32_sfence();
#endif
}""",
}


def streamed(loop: Loop, path: tuple[str, ...], made: Expansion) -> tuple[Node, ...]:
    """``loop`` with the lines that it writes past the caches written out.

    Args:
        loop: streams; nothing but statements is inside.
        path: the iterators around it.
        made: what is made of the program.
    """
    target = next(s.target for _, s in statements(loop.body) if s.target.array == loop.stream)
    width = LINE // made.types[target.array].size
    plain = replace(loop, stream="")
    start = Aligned(replace(plain, body=()), target, width)
    begin = Affine.var(made.first_value(f"{loop.iterator}#first", start))
    head = replace(plain, upper=(Bound(begin - 1), *loop.upper))
    whole = replace(plain, lower=(Bound(begin),))
    rest = replace(plain, lower=(Bound(made.left_over(whole, width)),))
    lanes, body = block_of(whole, width, path, made)
    inside = (*path, loop.iterator)
    line = made.add_array(f"{target.array}{_SUFFIX}", target.array, inside, (width,))
    element = target.substitute({loop.iterator: Affine.var(loop.iterator) + lanes})
    place = Access(line, (lanes,))
    body = map_all_accesses(body, lambda access: place if access == element else access)
    store = Statement("", target, "", Read(Access(line)), ())
    main = replace(groups(whole, width), vector=False, body=(*body, store))
    return head, main, rest


def is_line(name: str) -> bool:
    """Whether something declared is a line that is streamed."""
    return name.partition("'")[0].endswith(_SUFFIX)


def line_of(statement: Statement) -> str:
    """The line that a statement writes past the caches; else nothing."""
    match statement.value:
        case Read(Access(name)) if is_line(name):
            return name
        case _:
            return ""


def streams(loop: Loop) -> bool:
    """Whether a line is streamed inside a loop."""
    return any(line_of(s) for _, s in loop.inside)

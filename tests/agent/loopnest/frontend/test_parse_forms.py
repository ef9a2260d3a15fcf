"""Forms of C and what they are in the tree."""

import pytest

from agent.loopnest.frontend.ctree import (
    ArrayType,
    CastE,
    DeclareS,
    ExpressionS,
    IndexE,
    LabelS,
    ListE,
    Number,
    OtherE,
    OtherType,
    PointerType,
    RecordType,
    UnaryE,
    walk,
)
from agent.loopnest.frontend.parse import parse, parse_text


def unit_of(text):
    unit = parse_text(text, "k.c")
    assert unit.errors == ()
    return unit


def body(text):
    """The statements of the only function of a text."""
    (function,) = unit_of(text).functions.values()
    return function.body.items


def variable(text):
    """The only global variable of a text."""
    (found,) = unit_of(text).variables.values()
    return found


def shown(node):
    """An initialiser in short."""
    if isinstance(node, ListE):
        return "{" + ",".join(map(shown, node.items)) + "}"
    return shown(node.operand) if isinstance(node, CastE) else getattr(node, "text", "?")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("int a[3] = {1, 2, 3};", "{1,2,3}"),
        ("float a[2][2] = {1, 2, 3};", "{{1,2},{3}}"),
        ("int a[2][2] = {[1] = {[1] = 5}};", "{{},{0,5}}"),
        ("int a[] = {[4] = 1, 2, [0] = 7};", "{7,0,0,0,1,2}"),
        ("struct { int x; float y[2]; } a[2] = {1, 2, 3, {4, {5}}};", "{{1,{2,3}},{4,{5}}}"),
        ("struct { int x; float y[2]; } a = {.y = {1}, .x = 2};", "{2,{1}}"),
        ("int a[2][2][2] = {{1}, {{2}, 3, 4}};", "{{{1}},{{2},{3,4}}}"),
        ("int a[1000] = {0};", "{0}"),
        ("int a[2][3] = {[0][1] = 3};", "?"),
        ("int a[9] = {[0 ... 3] = 1};", "?"),
        ("int a[100000] = {[99999] = 1};", "?"),
        ('char a[] = "abc";', "?"),
    ],
)
def test_an_initialiser_stands_in_order_without_designators(text, values):
    assert shown(variable(text).init) == values


@pytest.mark.parametrize(
    ("expression", "text", "type_"),
    [
        ("0x1Fu", "0x1Fu", "unsigned int"),
        ("1.5f", "1.5f", "float"),
        ("'a'", "97", "int"),
        ("sizeof(double)", "8ul", "unsigned long"),
        ("sizeof x", "8ul", "unsigned long"),
        ("K", "-3", "int"),
        ("M", "16l", "long"),
        ("TWICE", "2.5", "double"),
        ("__builtin_offsetof(struct s, b)", "4ul", "unsigned long"),
    ],
)
def test_a_constant_is_a_number_with_its_type(expression, text, type_):
    head = "enum { K = -3 };\n#define M 0x10l\n#define TWICE M2\n#define M2 2.5\n"
    head += "struct s { char a; int b; };\ndouble x;\n"
    (statement,) = body(f"{head}void f(void) {{ (void)({expression}); }}")
    number = statement.expression.operand
    assert isinstance(number, Number)
    assert (number.type.text, number.text) == (type_, text)


def test_a_structure_has_its_fields_with_offsets():
    found = variable("struct s { char a; float b[2]; int c : 3; struct s *next; } x[4];")
    record = found.type.element
    assert isinstance(record, RecordType)
    assert [(f.name, f.offset) for f in record.fields] == [
        ("a", 0), ("b", 4), ("c", None), ("next", 16)
    ]  # fmt: skip
    assert record.size == 24


@pytest.mark.parametrize(
    "text", ["union u { int a; float b; } x;", "_Complex double x;", "volatile float *volatile x;"]
)
def test_a_type_that_nests_are_not_made_of_is_another(text):
    assert isinstance(variable(text).type, OtherType)


def test_const_reaches_the_elements_of_a_table():
    found = variable("static const short t[2][2] = {{1}};")
    assert found.type.element.element.const
    assert found.storage == "static"


def test_a_pointer_to_rows_of_a_variable_length_keeps_the_length():
    (declare,) = body("void f(int n, float *p) { float (*a)[n + 1] = (float (*)[n + 1])p; }")
    assert isinstance(declare, DeclareS)
    (found,) = declare.variables
    for type_ in (found.type, found.init.type):
        assert isinstance(type_, PointerType)
        assert type_.to.length.op == "+"


def test_a_length_behind_typeof_is_no_length():
    items = body("void f(int n, int m, float a[n]) { typeof(a[m]) b[n]; }")
    assert isinstance(items[0].variables[0].type, OtherType | ArrayType)
    if isinstance(items[0].variables[0].type, ArrayType):
        assert items[0].variables[0].type.length.name == "n"


def test_an_index_that_stands_before_its_array_is_one_behind_it():
    (statement,) = body("void f(int i, float *a) { i[a] = 0; }")
    assert isinstance(statement, ExpressionS)
    target = statement.expression.target
    assert isinstance(target, IndexE)
    assert (target.base.name, target.index.name) == ("a", "i")


@pytest.mark.parametrize(
    ("header", "missing"),
    [
        ("int i = 0; i < n; i++", ""),
        ("; i < n; i++", "init"),
        ("i = 0;; i++", "condition"),
        ("i = 0; i < n;", "step"),
        ("; /* ; */ i < n ;", "init step"),
        (";;", "init condition step"),
        ("i = (0, 1); n > ';';", "step"),
    ],
)
def test_the_parts_of_a_loop_are_those_that_are_written(header, missing):
    (loop,) = body(f"void f(int i, int n) {{ for ({header}) n--; }}")
    parts = {name: getattr(loop, name) for name in ("init", "condition", "step")}
    assert [name for name, part in parts.items() if part is None] == missing.split()


def test_a_label_that_something_jumps_to_is_used():
    items = body("void f(int n) { a: n++; b: n--; if (n) goto b; }")
    assert [s.used for s in items if isinstance(s, LabelS)] == [False, True]


def test_pragmas_of_others_leave_loops_as_they_are():
    text = "#pragma omp parallel for\n#pragma GCC ivdep\nfor (int i = 0; i < n; i++) n--;\n"
    text += "#pragma unroll(4)\nfor (int i = 0; i < n; i++) n--;\n"
    loops = body(f"void f(int n) {{\n{text}}}")
    assert [type(s).__name__ for s in loops] == ["ForS", "ForS"]


def test_names_of_one_spelling_are_told_apart():
    items = body("int x; void f(void) { x = 1; { int x; x = 2; } x = 3; }")
    first, last = (items[k].expression.target.ident for k in (0, 2))
    inner = items[1].items[1].expression.target.ident
    assert first == last != inner


@pytest.mark.parametrize(
    ("statement", "spelled"),
    [
        ("SQ(a) = 1", "SQ(a) = 1"),
        ("a = 1 + SQ(a)", "a = 1 + SQ(a)"),
        ("a = ADD(a,\n  (1 + 2))", "a = ADD(a,\n  (1 + 2))"),
        ("a = N", "a = N"),
        ("a = -ID(a)", "a = -ID(a)"),
    ],
)
def test_a_place_covers_the_uses_of_macros(statement, spelled):
    head = "#define SQ(x) x\n#define ID(x) x\n#define ADD(x, y) (x) + y\n#define N 4\n"
    text = f"{head}void f(int a) {{ {statement}; }}"
    (found,) = body(text)
    assert text.encode()[found.place.start : found.place.end].decode() == spelled
    assert (found.place.line, found.place.column) == (5, 17)


def test_functions_of_headers_are_read_where_they_can_be_inlined(tmp_path):
    (tmp_path / "own.h").write_text(
        "static inline int twice(int x) { return 2 * x; }\nint other(int x) { return x; }\n"
    )
    path = tmp_path / "k.c"
    path.write_text('#include "own.h"\nint f(int x) { return twice(x); }\n')
    assert [f.name for f in parse(path).functions.values()] == ["twice", "f"]


def test_what_is_not_read_is_named():
    (statement,) = body('void g(const char *); void f(void) { g("x"); }')
    assert [x.what for x in walk(statement) if isinstance(x, OtherE)] == ["a string"]


def test_an_address_has_the_type_of_what_it_points_to():
    (declare,) = body("void f(int n, float a[n][n]) { float *p = &a[1][0]; }")
    address = declare.variables[0].init
    assert isinstance(address, UnaryE)
    assert isinstance(address.type, PointerType)


def test_char_is_signed_as_the_target_has_it(tmp_path):
    path = tmp_path / "k.c"
    path.write_text("char c;\n")
    signed = [
        next(iter(parse(path, [flag]).variables.values())).type.dtype.is_signed
        for flag in ("-fsigned-char", "-funsigned-char")
    ]
    assert signed == [True, False]

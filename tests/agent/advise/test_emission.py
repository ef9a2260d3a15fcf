"""``agent emit``: a file that can be used in place of the person's own."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from agent.advise import drivers as drivers_module
from agent.advise import verify as verify_module
from agent.advise.own_function import Effort, OwnBuild, own_times
from agent.advise.splice import Origin, SourceRegion, spliced
from agent.advise.verify import verify
from agent.errors import Exit, SourceError
from agent.loopnest.frontend.parse import parse
from agent.loopnest.lowering.reader import read_region
from agent.loopnest.schedules.candidates import candidate_schedules
from agent.loopnest.schedules.legality import transform
from agent.loopnest.schedules.schedule import Parallelize, Vectorize, parse_schedule
from agent.measure.compiler import working_compiler
from tests.conftest import SCHEMAS, agent
from tests.other_user import NOBODY, needs_root

CASES = Path(__file__).parents[2] / "cases"
PLANT = {
    "box3x3_borders": {"w": 13, "h": 9},
    "calibration_curve": {"n": 30},
    "dot_induction": {"n": 17, "incx": 2, "incy": 3},
    "fir_taps": {"n": 50},
    "gemm_lda": {"m": 7, "n": 6, "k": 5, "lda": 9, "ldb": 8, "ldc": 10},
    "heat_pingpong": {"steps": 3},
    "kalman_predict": {},
    "lookup_table": {"pixels": 30},
    "sobel_flat": {"w": 13, "h": 9},
    "struct_fields": {"n": 21},
    "threshold_count": {"rows": 7, "cols": 9},
    "two_regions": {"rows": 7, "cols": 9},
}
STRICT = ("-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-c", "-o", os.devnull)
# Functions in which a region is awkward to replace, and sizes for which they are read.
AWKWARD = {
    "the only statement of an if": """
void f(int n, float *a, float *b) {
    if (n > 2)
        for (int i = 0; i < n; i++) a[i] = b[i] + 1;
    else
        a[0] = 0;
}""",
    "pragmas before the first loop": """
void f(int n, float *a, float *b) {
    #pragma omp parallel \\
        for
    for (int i = 0; i < n; i++)
        a[i] = 2 * b[i];
}""",
    "code before it on its line": """
void f(int n, float *a) { int i; for (i = 0; i < n; i++) a[i] += 1; a[0] += i; }""",
    "a size and a pointer that change before": """
void f(int n, float *a, const float *b) {
    n -= 2;
    b = b + 1;
    for (int i = 0; i < n; i++)
        a[i] = b[i] + b[i + 1];
}""",
    "an array parameter that changes before": """
void f(int n, float a[64], float b[64]) {
    b = b + 32;
    for (int i = 0; i < n; i++)
        a[i] = b[i];
}""",
    "the only statement of a loop after a comment": """
void f(int n, float *a) {
    for (int t = 0; t < 3; t++) // again
        /* and again */
#pragma omp parallel for
        for (int i = 0; i < n; i++)
            a[i] += 1;
}""",
    "an array that begins before its pointer": """
void f(int n, float *a, float *b) {
    float *p = b + 3;
    for (int i = 0; i < n - 3; i++)
        a[i] = p[i - 2] + p[i];
}""",
    "pragmas of a region, and comments before the function": """
/* What it does. */
// More.
void f(int n, float *a) {
#pragma scop
    for (int i = 0; i < n; i++) // all of them
        a[i] = 1; /* one */
#pragma endscop
}""",
    "macros with names that are emitted": """
#define max2 something
#define floord else
void f(int n, float *a) {
    for (int i = 0; i < n; i++)
        for (int j = i; j < n; j++)
            a[j] += a[i];
}""",
    "arrays that the loops declare": """
struct pair { float x; int y; };
void f(int n, float *a, const float *b) {
    for (int i = 0; i < n; i++)
        a[i] = b[i];
    float sums[4] = {0};
    for (int i = 0; i < n; i++)
        sums[i % 4] += a[i];
    for (int i = 0; i < n; i++) {
        int twice[2];
        struct pair p;
        twice[0] = i, twice[1] = 2 * i;
        p.x = sums[i % 4], p.y = twice[1];
        a[i] += p.x * twice[0] + p.y;
    }
}""",
    "a table with a name of its own": """
static const float t[3] = {1, 2, 3};
float f(int n, float *a) {
    float s = 0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < 3; j++)
            s += t[j] * a[i];
    return s + t[0];
}""",
}  # fmt: skip


def source_of(path, function, sizes) -> SourceRegion:
    unit = parse(path, (), None)
    return SourceRegion(path.read_bytes(), unit, read_region(unit, function, sizes), sizes)


def schedules_of(source):
    """One without and one with vectors, as different from as written as there is."""
    found = candidate_schedules(source.reading.program, 16)
    vector = [x for x in found if any(isinstance(s, Vectorize) for s in x[0].steps)]
    plain = [x for x in found if x not in vector]
    return [plain[-1], (vector or plain)[-1]]


def emitted(source, schedule, variant):
    return spliced(source, variant, Origin(str(schedule), "2026-11-29"))


@pytest.fixture(scope="module")
def compiler():
    return working_compiler()


def test_the_file_of_a_plant_is_as_it_was_seen(tmp_path):
    sizes = (f"--size={name}={value}" for name, value in PLANT["gemm_lda"].items())
    more = ("--schedule", "parallelize i; vectorize l", "--date", "2026-11-29", "--no-check")
    ran = agent("emit", CASES / "plant" / "gemm_lda.c", *sizes, *more)
    assert ran.out == (CASES / "emitted" / "gemm_lda.c").read_text()


@pytest.mark.skipif(not shutil.which("clang"), reason="clang is not installed")
@pytest.mark.parametrize("name", ["lookup_table", "dot_induction", "heat_pingpong"])
def test_clang_has_nothing_to_say_of_a_loop_that_it_does_not_vectorize(tmp_path, name):
    source = source_of(CASES / "plant" / f"{name}.c", name, PLANT[name])
    marked = (
        (schedule, variant)
        for schedule, variant in candidate_schedules(source.reading.program, 24)
        if {Parallelize, Vectorize} <= {type(step) for step in schedule.steps}
    )
    new = tmp_path / "new.c"
    new.write_bytes(emitted(source, *next(marked)))
    flags = [f for f in STRICT if f != "-O1"]
    subprocess.run(["clang", *flags, "-O3", "-march=native", "-fopenmp", new], check=True)


@pytest.mark.parametrize("name", PLANT)
def test_functions_of_plants_stay_what_they_are(tmp_path, compiler, name):
    path = CASES / "plant" / f"{name}.c"
    source = source_of(path, name, PLANT[name])
    for number, (schedule, variant) in enumerate(schedules_of(source)):
        new = tmp_path / f"{number}.c"
        new.write_bytes(emitted(source, schedule, variant))
        for flags in ((), ("-fopenmp",)):
            subprocess.run([*compiler.words, *STRICT, *flags, new], check=True)
        checked = verify(source, path, new.read_bytes(), compiler, ())
        assert checked.runs
        assert not checked.wrong, schedule
        assert not checked.unchecked


@pytest.mark.parametrize("what", AWKWARD)
def test_a_region_is_replaced_wherever_it_stands(tmp_path, compiler, what):
    path = tmp_path / "mine.c"
    path.write_text(AWKWARD[what])
    source = source_of(path, "f", {"n": 12})
    schedule, variant = schedules_of(source)[1]
    new = tmp_path / "new.c"
    new.write_bytes(emitted(source, schedule, variant))
    for flags in ((), ("-fopenmp",)):
        own = "-Wno-unknown-pragmas"  # the person's
        subprocess.run([*compiler.words, *STRICT, own, *flags, new], check=True)
    checked = verify(source, path, new.read_bytes(), compiler, ())
    assert checked.runs
    assert not checked.wrong


# What structures hold has memory of its own: sizes, and what their pointers lead to.
HELD = {
    "behind a pointer": ("""
struct image { int w, h; const char *name; float *data; };
void f(struct image *out, const struct image *im, float scale) {
    for (int y = 0; y < im->h; y++)
        for (int x = 0; x < im->w; x++)
            out->data[y * im->w + x] = scale * im->data[y * im->w + im->w - 1 - x];
}""", "im->w=300 im->h=100"),
    "passed by value": ("""
typedef struct { int n; double *in, *out; float taps[4]; } filter;
double f(filter c) {
    double s = 0;
    for (int i = 3; i < c.n; i++) {
        c.out[i] = c.taps[0] * c.in[i] + c.taps[3] * c.in[i - 3];
        s += c.out[i];
    }
    return s;
}""", "c.n=200000"),
    "behind two pointers, in a global": ("""
struct data { int n; unsigned char *at; };
struct net { struct data *in; struct data more; } *count;
void f(void) {
    for (int i = 0; i < count->in->n; i++)
        count->more.at[i] = count->in->at[i] / 2;
}""", "count->in->n=200000"),
}  # fmt: skip


@pytest.mark.parametrize("what", HELD)
def test_what_structures_hold_is_tried_and_timed(tmp_path, compiler, what):
    path = tmp_path / "mine.c"
    path.write_text(HELD[what][0])
    sizes = (text.split("=") for text in HELD[what][1].split())
    source = source_of(path, "f", {name: int(value) for name, value in sizes})
    schedule, variant = schedules_of(source)[1]
    new = emitted(source, schedule, variant)
    checked = verify(source, path, new, compiler, ())
    assert len(checked.runs) == 8
    assert not checked.wrong
    assert checked.sanitized
    assert not checked.unchecked
    wrong = re.sub(rb"(?m)^        f_tuned_1\(.*\);$", b"        ;", new)
    assert wrong != new
    assert verify(source, path, wrong, compiler, ()).wrong
    assert (
        own_times(source, path, new, OwnBuild(compiler), Effort(budget_s=0.01)).seconds_before > 0
    )


MIXED = """
void f(int n, double *out, const double *a) {
    for (int i = 0; i < n; i++) {
        float sum = 0;
        for (int j = 0; j < n; j++)
            sum += a[j] * a[i];
        out[i] = sum;
    }
}"""


def test_doubles_that_are_made_of_float_sums_agree_as_floats_do(tmp_path, compiler):
    path = tmp_path / "mine.c"
    path.write_text(MIXED)
    source = source_of(path, "f", {"n": 999})
    schedule = parse_schedule("vectorize j 16")
    new = emitted(source, schedule, transform(source.reading.program, schedule))
    assert not verify(source, path, new, compiler, ()).wrong
    wrong = new.replace(b"out[i] = ", b"out[i] = 1.01f * ", 1)  # in the version, not below it
    assert wrong != new
    assert verify(source, path, wrong, compiler, ()).wrong


def test_only_the_sizes_that_were_tuned_take_the_tuned_version(tmp_path, compiler):
    path = CASES / "plant" / "two_regions.c"
    source = source_of(path, "two_regions", PLANT["two_regions"])
    new = emitted(source, *schedules_of(source)[0])
    broken = new.replace(b"two_regions_tuned_1((void *)a, (void *)tmp, eps);", b"a[0] = 77;")
    assert broken != new
    checked = verify(source, path, broken, compiler, ())
    assert checked.runs
    assert {sizes == source.sizes: same for sizes, same in checked.runs} == {
        True: False,
        False: True,
    }


def test_arrays_that_overlap_take_the_loops_as_they_were(tmp_path, compiler):
    path = tmp_path / "mine.c"
    path.write_text("void f(int n, float *a, const float *b)\n{\n"
                    "    for (int i = 0; i < n; i++)\n        a[i] = b[i] + 1;\n}\n")  # fmt: skip
    source = source_of(path, "f", {"n": 64})
    new = emitted(source, *schedules_of(source)[1])
    caller = "int main(void) { float m[65] = {0}; f(64, m + 1, m); return (int)m[64]; }\n"
    (tmp_path / "new.c").write_bytes(new + caller.encode())
    program = tmp_path / "program"
    subprocess.run([*compiler.words, "-O3", tmp_path / "new.c", "-o", program], check=True)
    assert subprocess.run([program], check=False).returncode == 64


def test_what_differs_from_machine_to_machine_is_looked_at(tmp_path, compiler):
    path = tmp_path / "mine.c"
    path.write_text("struct pair { long a; char b; };\n"
                    "void f(int n, char *to, const char *from, const struct pair *p)\n{\n"
                    "    for (int i = 0; i < n; i++)\n"
                    "        to[i] = from[i] / 2 + p[i].b;\n}\n")  # fmt: skip
    source = source_of(path, "f", {"n": 64})
    new = emitted(source, *schedules_of(source)[1])
    assert b"sizeof(struct pair) == 16" in new
    caller = """
int main(void) {
    char to[64], from[64];
    struct pair p[64] = {{0}};
    for (int i = 0; i < 64; i++)
        from[i] = -4;
    f(64, to, from, p);
    return (unsigned char)to[63];
}
"""
    (tmp_path / "new.c").write_bytes(new + caller.encode())
    program = tmp_path / "program"
    for flag, result in (("-fsigned-char", 254), ("-funsigned-char", 126)):
        subprocess.run(
            [*compiler.words, "-O3", flag, tmp_path / "new.c", "-o", program], check=True
        )
        assert subprocess.run([program], check=False).returncode == result


def test_lines_end_as_they_did_and_the_loops_are_kept_byte_for_byte(tmp_path):
    path = tmp_path / "mine.c"
    loops = b"for (int i = 0; i < n; i++) {\r\n\ta[i] += 1; /* \xe9 */\r\n  }"
    path.write_bytes(b"void f(int n, float *a)\r\n{\r\n  " + loops + b"\r\n}\r\n")
    source = source_of(path, "f", {"n": 64})
    new = emitted(source, *schedules_of(source)[1])
    assert loops in new
    assert new.count(b"\n") == new.count(b"\r\n")


def test_a_file_can_be_emitted_again_with_a_second_version(tmp_path, compiler):
    path = CASES / "plant" / "two_regions.c"
    source = source_of(path, "two_regions", PLANT["two_regions"])
    once = tmp_path / "once.c"
    once.write_bytes(emitted(source, *schedules_of(source)[0]))
    unit = parse(once, (), None)
    other = {"rows": 11, "cols": 5}
    again = SourceRegion(once.read_bytes(), unit, read_region(unit, "two_regions", other), other)
    assert not verify(again, once, emitted(again, *schedules_of(again)[1]), compiler, ()).wrong


def test_a_value_that_would_be_lost_is_refused(tmp_path):
    path = tmp_path / "mine.c"
    path.write_text(
        "float f(int n, float *a)\n{\n#pragma scop\n    float s = 2;\n"
        "    for (int i = 0; i < n; i++) a[i] += s;\n#pragma endscop\n    return s;\n}\n"
    )
    source = source_of(path, "f", {"n": 9})
    with pytest.raises(SourceError, match="'s' is used after the loops"):
        emitted(source, *schedules_of(source)[0])


SCALE = "void scale(int n, float *a)\n{\n    for (int i = 0; i < n; i++)\n        a[i] *= 2;\n}\n"


def emit(path, *more, **env):
    return agent("emit", path, "--size", "n=100", "--schedule", "vectorize i", *more, **env)


@pytest.fixture
def scale(tmp_path):
    path = tmp_path / "scale.c"
    path.write_text(SCALE)
    return path


def test_a_file_that_is_there_is_replaced_only_where_that_is_asked(scale):
    refused = emit(scale, "--out", scale)
    assert refused.code == 2
    assert "is there already" in refused.err
    assert scale.read_text() == SCALE
    done = emit(scale, "--out", scale, "--force")
    assert done.code == 0, done.err
    assert "8 runs" in done.out
    assert "scale_tuned_1" in scale.read_text()
    assert [x.name for x in scale.parent.iterdir()] == [scale.name]


@needs_root  # to become somebody who may not write there
def test_a_directory_that_is_read_only_is_told(open_place, nobody):
    path = open_place / "scale.c"
    path.write_text(SCALE)
    more = ("--size", "n=100", "--schedule", "original", "--out", open_place / "new.c")
    ran = nobody("emit", path, *more)
    assert ran.code == 2
    assert "read-only" in ran.err
    assert not (open_place / "new.c").exists()


@needs_root  # to have a file of somebody else's
def test_what_another_user_wrote_runs_as_that_user_and_learns_no_secrets_of_roots(open_place):
    path = open_place / "scale.c"
    refusing = SCALE.replace(
        "{", '{\n    if (getuid() == 0 || getenv("SECRET"))\n        abort();', 1
    )
    path.write_text("#include <stdlib.h>\n#include <unistd.h>\n" + refusing)
    os.chown(path, NOBODY.pw_uid, -1)
    ran = emit(path, SECRET="of root")
    assert ran.code == 0, ran.err
    assert "8 runs" in ran.err


# Runs before `main`, with the rights of who wrote the file: the names that root will write to, made
# to lead to a file of root's.
LEADING_ELSEWHERE = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
__attribute__((constructor)) static void plant(int count, char **words) {
    char folder[4096];
    if (count < 2 || !strrchr(words[1], '/'))
        return;
    snprintf(folder, sizeof folder, "%%.*s", (int)(strrchr(words[1], '/') - words[1]), words[1]);
    if (chdir(folder) != 0)
        return;
    for (int n = 0; n < 9; n++) {
        char name[16];
        snprintf(name, sizeof name, "input_%%d", n);
        if (symlink("%s", name) == 0)
            puts("planted");
    }
}
"""


@needs_root  # to have a file of somebody else's
def test_what_another_user_wrote_leads_root_to_no_other_file(open_place):
    path, mine = open_place / "scale.c", open_place / "made by root"
    path.write_text(LEADING_ELSEWHERE % mine + SCALE)
    os.chown(path, NOBODY.pw_uid, -1)
    ran = emit(path)
    assert ran.code == 0, ran.err
    assert "8 runs" in ran.err
    assert not mine.exists()


def test_a_function_that_reaches_beyond_itself_is_not_tried(scale, tmp_path):
    precious = tmp_path / "precious"
    precious.touch()
    clean = f'static void clean(void) {{ remove("{precious}"); }}\n'
    calling = SCALE.replace("{", "{\n    clean();", 1)
    scale.write_text("#include <stdio.h>\n" + clean + calling)
    ran = emit(scale)
    assert ran.code == 0, ran.err
    assert "Not checked: it calls 'remove', which reaches beyond the function" in ran.err
    assert precious.exists()


def test_a_compiler_that_builds_the_new_file_wrong_is_found(scale, tmp_path):
    """One whose optimisation multiplies by something else."""
    odd = tmp_path / "odd-gcc"
    odd.write_text(
        '#!/bin/sh\ncase " $* " in *" -O1 "*) ;; *) set -- -DFACTOR=3 "$@" ;; esac\nexec gcc "$@"\n'
    )
    odd.chmod(0o755)
    factor = "#ifndef FACTOR\n#define FACTOR 2\n#endif\n"
    scale.write_text(factor + SCALE.replace("*= 2", "*= FACTOR"))
    ran = emit(scale, "--compiler", odd)
    assert (ran.code, ran.out) == (Exit.NOTHING_MEASURED, "")
    assert "when it is compiled with" in ran.err
    assert "a fault of the compiler" in ran.err


# 256 MiB, piece by piece, and then more time than there is.
TAKING = """
#include <stdlib.h>
#include <string.h>
static char *kept[1 << 10];
static void take(void)
{
    for (int n = 0;; n = (n + 1) % (1 << 10)) {
        if (!kept[n] && !(kept[n] = malloc(1 << 18)))
            abort();
        memset(kept[n], n, 1 << 18);
    }
}
void f(float *a)
{
    for (int i = 0; i < 100; i++)
        a[i] *= 2;
    take();
}
"""


@pytest.mark.parametrize("sanitized", [verify_module.SANITIZED, ("-no-such-flag",)])
def test_a_function_that_takes_more_memory_than_it_may_fails(
    scale, compiler, monkeypatch, sanitized
):
    scale.write_text(TAKING)
    monkeypatch.setattr(drivers_module, "MEMORY", 128 << 20)
    monkeypatch.setattr(drivers_module, "OF_A_THREAD", 0)
    watched = {"ASAN_OPTIONS": "detect_leaks=0:hard_rss_limit_mb=128"}
    monkeypatch.setattr(verify_module, "WATCHED", watched)
    monkeypatch.setattr(verify_module, "SANITIZED", sanitized)
    source = source_of(scale, "f", {})
    found = verify(source, scale, emitted(source, *schedules_of(source)[0]), compiler, ())
    assert found.unchecked
    assert all("fails with inputs" in words for words in found.unchecked)


def test_what_the_function_writes_beside_it_while_it_is_tried_is_thrown_away(scale, tmp_path):
    writing = '__attribute__((constructor)) static void put(void) { fopen("out.txt", "w"); }\n'
    scale.write_text("#include <stdio.h>\n" + writing + SCALE)
    before = set(Path.cwd().iterdir())
    ran = emit(scale)
    assert "8 runs" in ran.err
    assert set(Path.cwd().iterdir()) == before


def test_the_difference_makes_the_file_from_the_old_one(scale, tmp_path):
    whole = emit(scale, "--no-check", "--date", "2026-11-29")
    change = emit(scale, "--no-check", "--date", "2026-11-29", "--diff")
    subprocess.run(["patch", "-s", scale], input=change.out, text=True, check=True)
    assert scale.read_text() == whole.out


def test_the_answer_has_the_shape_that_is_documented(scale):
    ran = emit(scale, "--json")
    body = json.loads(ran.out)
    Draft202012Validator(json.loads((SCHEMAS / "emit.json").read_text())).validate(body)
    assert body["check"]["sizes"] == [{"n": n} for n in (100, 99, 1, 0)]


def test_sizes_of_nothing_are_not_told_of_where_the_function_itself_fails_with_them(scale):
    scale.write_text(SCALE.replace("*= 2", "*= 60 / n"))
    ran = emit(scale, "--json")
    assert [size["n"] for size in ran.json["check"]["sizes"]] == [100, 99, 1, 0]
    scale.write_text(SCALE.replace("{\n    for", "{\n    int m = 60 / n;\n    for"))
    ran = emit(scale, "--json")
    assert [size["n"] for size in ran.json["check"]["sizes"]] == [100, 99, 1]
    assert ran.json["check"]["unchecked"] == []


def test_what_calls_functions_of_other_files_is_compiled_and_the_rest_told(scale):
    scale.write_text("void more(void);\n" + SCALE.replace("*= 2;\n}", "*= 2;\n    more();\n}"))
    ran = emit(scale)
    assert ran.code == 0, ran.err
    assert "Not checked: the file does not link by itself" in ran.err

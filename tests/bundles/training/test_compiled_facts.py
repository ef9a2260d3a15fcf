"""`benchmarks/compiled_facts*.py`: what is counted of a compiled program, and how it is learned."""

import random

import numpy as np
import pytest
import torch

from agent.loopnest.emitter.emit import emit
from benchmarks import compiled_facts, compiled_facts_known
from benchmarks.compiled_facts import (
    Facts,
    Instruction,
    drawn_variants,
    facts_of,
    facts_of_program,
    facts_of_rows,
    functions,
    kinds,
    names,
)
from benchmarks.compiled_facts_known import Rows, corrected, ways
from benchmarks.compiled_facts_taught import (
    FactsNetwork,
    foretold,
    known,
    shuffled,
    whole_loss,
)
from bundles.corpus.corpus import random_program
from bundles.labels.programs import scheduled
from bundles.training.dataset import variants_of
from bundles.training.network import Pretrainer, Shape, Weights, loss
from tests.agent.loopnest.nests import gemm

LISTING = """
\t.text
\t.type\tkernel_0, @function
kernel_0:
.LFB0:
\tendbr64
\tmovl\t$8, %eax
\tcall\thelper@PLT
.L2:
\tvmovsd\t(%rdi), %xmm0
.L3:
\tvmulpd\t(%rsi,%rax), %zmm1, %zmm2
\tvfmadd231pd\t%zmm2, %zmm1, %zmm3
\tvmovapd\t%zmm3, (%rdx,%rax){%k1}
\taddq\t$64, %rax
\tcmpq\t%rcx, %rax
\tjne\t.L3
.L4:
\tvaddsd\t8(%rsp), %xmm0, %xmm0
\tsubl\t$1, %ebx
\tjg\t.L4
\tdecl\t%r8d
\tjne\t.L2
\tret
\t.size\tkernel_0, .-kernel_0
"""


def fact(found, name):
    return round(float(np.expm1(found[names("t").index(f"t {name}")])))


def of(name, operands):
    there = kinds(Instruction(name, operands))
    return {kind for kind, is_it in zip(compiled_facts.KINDS, there, strict=True) if is_it}


def test_loops_are_jumps_back_and_the_main_one_is_the_innermost_with_the_widest_vectors():
    found = facts_of(list(functions(LISTING)))
    assert [fact(found, name) for name in ("loops", "innermost loops", "deepest", "widest")] == [
        3, 2, 2, 64,
    ]  # fmt: skip
    counts = [fact(found, f"main {k}") for k in ("instructions", "zmm", "fma", "scalar", "masked")]
    assert counts == [6, 2, 1, 0, 1]
    assert [fact(found, f"inner {k}") for k in ("instructions", "scalar", "spills")] == [9, 1, 1]
    assert [fact(found, f"all {k}") for k in ("instructions", "calls", "branches")] == [16, 1, 3]


@pytest.mark.parametrize(
    ("name", "operands", "expected"),
    [
        ("vaddss", "(%rax), %xmm1, %xmm0", {"loads", "scalar"}),
        ("vmovups", "%ymm0, 4(%rdi,%rax,4)", {"stores"}),
        ("vmovups", "4(%rdi,%rax,4), %ymm0", {"loads"}),
        ("vmovapd", "%zmm0, (%rdi){%k1}", {"stores", "masked"}),
        ("vgatherdps", "(%rdx,%ymm1,4), %ymm0{%k1}", {"gathers", "masked"}),
        ("vpmulld", "%ymm0, %ymm1, %ymm2", {"ymm"}),
        ("vdivsd", "%xmm0, %xmm1, %xmm2", {"divisions"}),
        ("vmaxps", "%zmm0, %zmm1, %zmm2", {"extremes"}),
        ("vbroadcastss", "(%rsi), %zmm1", {"shuffles", "loads"}),
        ("vcvtdq2ps", "%ymm0, %ymm0", {"conversions"}),
        ("vmovsd", "%xmm0, 16(%rsp)", {"stores", "spills"}),
        ("leaq", "8(%rdi,%rax,4), %rdx", {"addresses"}),
        ("addl", "$1, (%rdi)", {"integer", "loads", "stores"}),
        ("cmpl", "$1, (%rdi)", {"loads"}),
        ("jne", ".L3", {"branches"}),
        ("call", "expf@PLT", {"calls"}),
    ],
)
def test_an_instruction_is_of_the_kinds_that_its_name_and_operands_say(name, operands, expected):
    assert of(name, operands) == {"instructions"} | expected


def test_vectors_are_as_wide_as_the_target_has_them_and_equal_versions_have_equal_facts(
    monkeypatch,
):
    monkeypatch.setattr(compiled_facts, "TARGETS", ("x86-64-v3", "x86-64-v4"))
    small = gemm(64)
    found = facts_of_program([small, scheduled(small, "interchange j k; vectorize j"), small])
    narrow, wide = np.split(np.expm1(found), 2, axis=1)
    assert narrow[1, names("v3").index("v3 widest")] == pytest.approx(32)
    assert wide[1, names("v4").index("v4 widest")] == pytest.approx(64)
    assert np.array_equal(found[0], found[2])
    assert not np.array_equal(found[0], found[1])


def test_a_program_that_the_compiler_refuses_has_no_facts():
    assert np.isnan(compiled_facts.facts_of_unit(["int kernel( {"], [])).all()


def test_facts_are_of_the_variants_that_pre_training_draws(monkeypatch):
    seen = []
    monkeypatch.setattr(compiled_facts, "SHARD", 2)
    monkeypatch.setattr(
        compiled_facts, "facts_of_program", lambda some: seen.append(some) or np.zeros((6, 1))
    )
    assert facts_of_rows(5, 3, 4).shape == (1, 6, 1)
    rng = random.Random("5/1")
    programs = [random_program(rng) for _ in range(2)]
    variants_of(programs[0], 16, rng)
    drawn, _ = drawn_variants(programs[1], 16, rng)
    assert [emit(p) for p in seen[0]] == [emit(drawn[n % len(drawn)]) for n in range(6)]


def facts_at(rows, versions=2):
    values = np.random.default_rng(0).normal(5, 2, (len(rows), versions, 3)).astype(np.float32)
    values[..., 2] = 1.0  # says nothing
    return Facts(np.array(rows), values, ["a", "b", "c"])


def test_facts_stand_beside_their_versions_and_are_scaled_by_what_is_learned():
    found = known(facts_at([0, 2, 3]), programs=5, variants=4, learnt=3)
    assert found.names == ("a", "b")
    assert np.isfinite(found.facts).all(-1).tolist() == [
        [True, True, False, False], [False] * 4, [True, True, False, False],
        [True, True, False, False], [False] * 4,
    ]  # fmt: skip
    taught = found.facts[[0, 2], :2].reshape(-1, 2)
    assert taught.mean(0) == pytest.approx(0, abs=1e-5)
    assert taught.std(0) == pytest.approx(1, abs=1e-5)


def test_shuffled_facts_are_the_same_ones_elsewhere():
    before = known(facts_at([0, 2, 3]), programs=5, variants=4, learnt=3)
    after = shuffled(before, np.random.default_rng(1))
    assert np.array_equal(np.isnan(before.facts), np.isnan(after.facts))
    assert not np.array_equal(before.facts, after.facts, equal_nan=True)
    ours, theirs = (np.sort(some.facts[..., 0].ravel()) for some in (before, after))
    assert np.array_equal(ours, theirs, equal_nan=True)


def test_without_facts_a_network_and_its_loss_are_those_of_pre_training():
    shape = Shape(features=6, machines=3, hidden=8, blocks=1, embedding=4)
    torch.manual_seed(0)
    plain = Pretrainer(shape)
    after = torch.rand(1)
    torch.manual_seed(0)
    ours = FactsNetwork(shape, 5)
    assert torch.equal(torch.rand(1), after)
    x, y = torch.randn(2, 3, 6), torch.randn(2, 3, 3)
    weights = Weights(mask=0.0)
    expected = loss(plain, x, y, weights)
    nothing = torch.full((2, 3, 5), torch.nan)
    assert torch.equal(whole_loss(ours, x, y, nothing, weights, 1.0), expected)
    nothing[1, 2] = 1.0
    assert whole_loss(ours, x, y, nothing, weights, 1.0) > expected


def test_what_is_seen_foretells_facts_that_are_linear_in_it_and_no_others():
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(60, 4, 3))
    facts = np.stack([seen[..., 0] - seen[..., 2], rng.normal(size=(60, 4))], -1)
    facts[::7] = np.nan
    linear, noise = foretold(seen, facts.astype(np.float32), learnt=40)
    assert linear > 0.99
    assert noise < 0.1


def test_facts_that_say_what_a_bundle_missed_are_worth_that_on_programs_left_out(monkeypatch):
    monkeypatch.setattr(compiled_facts_known, "TREES", 20)
    monkeypatch.setattr(compiled_facts_known, "FOLDS", 2)
    rng = np.random.default_rng(0)
    facts, told = rng.normal(size=(200, 2)).astype(np.float32), rng.normal(size=200)
    truth = told + np.sign(facts[:, 0])
    rows = Rows(np.arange(200) // 4, truth, told, np.zeros((200, 1), np.float32), facts)
    given = ways(rows)
    error = {name: corrected(rows, given[name], 0)["log_error"] for name in ("bundle", "facts")}
    assert error["bundle"] == pytest.approx(1.0)
    assert error["facts"] < 0.7
    assert corrected(rows, given["features and shuffled"], 0)["log_error"] > 0.8

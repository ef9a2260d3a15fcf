import ctypes
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import CompilerError
from agent.measure.cache import Cache
from agent.measure.compiler import MAX_WORDS, Compiler, compiler_mark, working_compiler
from agent.measure.toolchain import Toolchain


def compile_shared(toolchain: Toolchain, source: str, cache: Path) -> Path:
    (built,) = toolchain.build([source], Cache(cache))
    if isinstance(built, CompilerError):
        raise built
    return Path(built)


def wrapper(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_the_default_compiler_is_found_tried_and_named(toolchain: Toolchain) -> None:
    assert Path(toolchain.compiler).is_absolute()
    assert toolchain.version
    assert "-O3" in toolchain.flags
    assert "-ffast-math" not in toolchain.flags


def test_cc_in_the_environment_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CC", wrapper(tmp_path / "mycc", 'exec cc "$@"'))
    assert working_compiler().compiler == str(tmp_path / "mycc")


def test_a_compiler_that_is_not_there_is_named_with_a_way_to_install_one() -> None:
    with pytest.raises(CompilerError, match="'no-such-cc' was not found") as caught:
        working_compiler("no-such-cc")
    assert "apt install gcc" in caught.value.hint


def test_without_any_compiler_the_names_tried_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(CompilerError, match="no C compiler was found"):
        working_compiler()


def test_something_that_is_no_compiler_is_refused() -> None:
    with pytest.raises(CompilerError):
        working_compiler("true")


def test_a_compiler_without_openmp_falls_back_to_simd_pragmas(tmp_path: Path) -> None:
    script = 'for a in "$@"; do [ "$a" = -fopenmp ] && exit 1; done\nexec cc "$@"'
    found = working_compiler(wrapper(tmp_path / "cc1", script))
    assert not found.openmp
    assert "-fopenmp-simd" in found.flags


def test_given_flags_replace_the_defaults() -> None:
    assert working_compiler(flags=["-O1"]).flags == ("-O1",)


def test_a_refused_flag_shows_the_compilers_words() -> None:
    with pytest.raises(CompilerError, match="no-such-flag"):
        working_compiler(flags=["-fno-such-flag"])


def test_the_shared_object_runs(toolchain: Toolchain, tmp_path: Path) -> None:
    path = compile_shared(toolchain, "int answer(void) { return 42; }", tmp_path)
    assert ctypes.CDLL(str(path)).answer() == 42


def test_the_second_compilation_does_not_run_the_compiler(tmp_path: Path) -> None:
    script = f'echo run >> {tmp_path}/log\nexec cc "$@"'
    found = working_compiler(wrapper(tmp_path / "counting", script), flags=["-O1"])
    before = len((tmp_path / "log").read_text().splitlines())
    first = compile_shared(found, "int f(void) { return 1; }", tmp_path / "cache")
    second = compile_shared(found, "int f(void) { return 1; }", tmp_path / "cache")
    assert first == second
    assert len((tmp_path / "log").read_text().splitlines()) == before + 1


def test_a_damaged_entry_is_compiled_again(toolchain: Toolchain, tmp_path: Path) -> None:
    source = "int g(void) { return 7; }"
    compile_shared(toolchain, source, tmp_path).write_bytes(b"")
    assert ctypes.CDLL(str(compile_shared(toolchain, source, tmp_path))).g() == 7


def test_other_flags_make_another_entry(toolchain: Toolchain, tmp_path: Path) -> None:
    source, other = "int h(void) { return 1; }", working_compiler(flags=["-O0"])
    assert compile_shared(toolchain, source, tmp_path) != compile_shared(other, source, tmp_path)


def test_an_error_holds_the_compilers_own_words(toolchain: Toolchain, tmp_path: Path) -> None:
    with pytest.raises(CompilerError, match=r"kernel\.c:1:9: error: expected expression"):
        compile_shared(toolchain, "int x = ;", tmp_path)


def test_a_very_long_message_is_cut(toolchain: Toolchain, tmp_path: Path) -> None:
    with pytest.raises(CompilerError) as caught:
        compile_shared(toolchain, "int x = ;\n" * 2000, tmp_path)
    assert len(caught.value.message) < MAX_WORDS + 200


def test_many_sources_keep_their_order_and_bad_ones_do_not_stop_the_others(
    toolchain: Toolchain, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    sources = [f"int f(void) {{ return {i}; }}" for i in range(6)] + ["int f(void) {"]
    built = toolchain.build(
        sources, Cache(tmp_path), progress=lambda done, total: seen.append((done, total))
    )
    values = [ctypes.CDLL(str(b)).f() for b in built[:-1]]
    assert values == list(range(6))
    assert isinstance(built[-1], CompilerError)
    assert seen[-1] == (7, 7)


def test_a_kill_during_compilation_leaves_no_entry(tmp_path: Path) -> None:
    slow = wrapper(tmp_path / "slow", f'touch {tmp_path}/started\ncc "$@"\nexec sleep 250')
    code = f"""
from pathlib import Path
from agent.measure.cache import Cache
from agent.measure.compiler import Compiler
c = Compiler(({slow!r},), "v", "t", ("-O1",), False, "id")
c.build(["int f(void) {{ return 1; }}"], Cache(Path({str(tmp_path / "cache")!r})))
"""
    child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    while not list((tmp_path / "cache").glob("tmp-*/kernel")):
        time.sleep(0.01)
        assert child.poll() is None
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    assert not list((tmp_path / "cache").glob("[0-9a-f][0-9a-f]/*"))


def test_an_interruption_stops_the_compilers_at_once(tmp_path: Path) -> None:
    slow = wrapper(tmp_path / "slow", "exec sleep 250")
    slow_compiler = Compiler((slow,), "v", "t", (), False, "id")

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        slow_compiler.build(["a", "b", "c"], Cache(tmp_path / "c"), progress=interrupt)
    assert time.monotonic() - started < 100
    assert not list((tmp_path / "c").glob("tmp-*"))


@pytest.mark.parametrize("more", ["", " -g -DX='1 2'"])
def test_a_command_of_several_words_is_split_as_make_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, more: str
) -> None:
    launcher = wrapper(tmp_path / "launcher", 'exec "$@"')
    monkeypatch.setenv("CC", f"{launcher} cc{more}")
    found = working_compiler()
    assert found.compiler == f"{launcher} cc"
    assert found.flags[:-5] == (("-g", "-DX=1 2") if more else ())
    assert compile_shared(found, "int x;", tmp_path / "cache").exists()
    assert compiler_mark() == found.mark


def test_a_path_with_blanks_is_one_word(tmp_path: Path) -> None:
    (tmp_path / "my tools").mkdir()
    path = wrapper(tmp_path / "my tools" / "cc", 'exec cc "$@"')
    assert working_compiler(path).compiler == path


def test_a_version_that_takes_far_longer_than_the_first_is_given_up_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = 'grep -q slow kernel.c 2>/dev/null && exec sleep 600\nexec cc "$@"'
    monkeypatch.setattr("agent.measure.compiler.LEAST_LIMIT_S", 1.0)
    monkeypatch.setattr("agent.measure.compiler.PROPORTION", 4.0)
    found = working_compiler(wrapper(tmp_path / "cc1", script))
    built = found.build(["int first;", "int slow;", "int third;"], Cache(tmp_path / "cache"))
    assert [isinstance(b, Path) for b in built] == [True, False, True]
    assert "of compiling" in str(built[1])


def test_a_version_may_not_take_longer_than_it_would_be_worth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = 'grep -q slow kernel.c 2>/dev/null && exec sleep 600\nexec cc "$@"'
    monkeypatch.setattr("agent.measure.compiler.LEAST_LIMIT_S", 1.0)
    monkeypatch.setattr("agent.measure.compiler.PROPORTION", 1e9)
    found = replace(working_compiler(wrapper(tmp_path / "cc1", script)), most_s=0.5)
    built = found.build(["int first;", "int slow;"], Cache(tmp_path / "cache"))
    assert [isinstance(b, Path) for b in built] == [True, False]
    assert "stopped after 1 s of compiling" in str(built[1])

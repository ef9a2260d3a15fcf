"""Programs around a person's file that call its function, compiled and run as children.

What root reads of another user's is compiled and run as that user. Then only root changes what is
in the folder, so that no name in it can be made to lead elsewhere; what the user's processes make
lies in a folder of theirs in it, which is also where they work.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from agent.advise.calls import CallPlan
from agent.advise.splice import SourceRegion
from agent.errors import CompilerError
from agent.measure.compiler import COMPILE_LIMITS, Compiler
from agent.system.child import ChildLimits, ChildRun, inherited, other_owner, run_child
from agent.system.tasks import check_words

RUN_S = 20.0
MEMORY = 8 << 30  # bytes, for what is tried
OF_A_THREAD = 256 << 20  # bytes of address space that it may take besides
UNLIMITED = 1 << 60
DRIVER = """#define main agent_main_of_the_file
#include "{file}"
#undef main
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* volatile: no compiler may know who is called, or with what */
static __typeof__({function}) *volatile agent_function = {function};

static void *agent_memory(FILE *from, size_t bytes)
{{
    void *memory = malloc(bytes ? bytes : 1);
    if (!memory || fread(memory, 1, bytes, from) != bytes)
        exit(99);
    return memory;
}}

static inline double agent_now(void)
{{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + 1e-9 * now.tv_nsec;
}}

int main(int agent_count, char **agent_words)
{{
    FILE *agent_in = agent_count > 2 ? fopen(agent_words[1], "rb") : NULL;
    FILE *agent_out = fdopen(dup(1), "wb");
    if (!agent_in || !agent_out || !freopen("/dev/null", "w", stdout))
        return 99;
    switch (atoi(agent_words[2])) {{
{cases}
    }}
    return fflush(agent_out) || fclose(agent_out);
}}
"""


@dataclass(frozen=True)
class Drivers:
    """Where drivers are made, and with what.

    Attributes:
        folder: where both files (``old.c``, ``new.c``) and what is made of them are.
        path: where the person's file is; ``function``: its function.
        compiler: with its flags; ``cflags``: the person's.
        user: who wrote the file, where that is not this process's user; for root only.
    """

    folder: Path
    path: Path
    function: str
    compiler: Compiler
    cflags: tuple[str, ...]
    user: int | None

    @property
    def old(self) -> Path:
        """The person's file."""
        return self.folder / "old.c"

    @property
    def new(self) -> Path:
        """The file that is compared with the person's."""
        return self.folder / "new.c"

    @property
    def made(self) -> Path:
        """Where compilers and programs write."""
        return self.folder / "made"

    def put(self, name: str, content: bytes) -> Path:
        """A file that those who compile and run can read, and nobody else."""
        path = self.folder / name
        path.touch(0o600)
        if self.user is not None:
            os.chown(path, self.user, -1)
        path.write_bytes(content)
        return path

    def program(
        self, name: str, file: Path, cases: Sequence[str], flags: Sequence[str] = ()
    ) -> Path | str:
        """The driver around a file, which does a case; the compiler's words where it refuses."""
        blocks = (f"    case {n}: {{\n{text}\n    break;\n    }}" for n, text in enumerate(cases))
        written = str(file.absolute()).replace("\\", "\\\\").replace('"', '\\"')
        text = DRIVER.format(file=written, function=self.function, cases="\n".join(blocks))
        driver = self.put(f"{name}.c", text.encode("utf-8", "surrogateescape"))
        made = self.made / name
        return self._refused([*flags, str(driver), "-lm", "-o", str(made)]) or made

    def check_new(self) -> None:
        """Raises CompilerError where the new file is not C."""
        words = self._refused(["-O1", "-c", str(self.new), "-o", str(self.made / "new.o")])
        if words:
            raise faulty(words)

    def _refused(self, more: Sequence[str]) -> str:
        """Why the compiler refused; empty: it did not."""
        beside = str(self.path.absolute().parent)
        command = [*self.compiler.words, *self.compiler.flags, "-w", *self.cflags]
        run = run_child([*command, "-iquote", beside, *more], COMPILE_LIMITS, user=self.user)
        if run.status == 0:
            return ""
        check_words(run.words)
        return run.words or "the compiler did not end"

    def run(
        self,
        program: Path,
        number: int,
        plan: CallPlan,
        environment: Mapping[str, str],
        most_s: float = RUN_S,
    ) -> ChildRun:
        """A case, with the memory of call ``number`` of the plan.

        What is sanitized takes most of the address space: there ``ASAN_OPTIONS`` set the limit.

        Raises:
            TaskLimitError: it says that it may start no thread.
        """
        seed = plan.calls[number].seed
        memory = self.folder / f"input_{seed}"
        if not memory.exists():
            self.put(memory.name, plan.inputs(seed))
        output = sum(m.size for m in plan.memory) + 64
        space = MEMORY + OF_A_THREAD * (os.cpu_count() or 1)
        space = UNLIMITED if "ASAN_OPTIONS" in environment else space
        limits = ChildLimits(seconds=most_s, memory=space, file=1 << 20, output=output)
        command = [str(program), str(memory), str(number)]
        around = {**inherited(self.user), **environment}
        run = run_child(command, limits, place=self.made, environment=around, user=self.user)
        if run.status:
            check_words(run.words)
        return run


def faulty(words: str) -> CompilerError:
    """What to raise where a file that was written does not compile."""
    return CompilerError(words, "This is a fault of the agent's: please report it.")


@contextmanager
def drivers(
    source: SourceRegion, path: Path, new: bytes, compiler: Compiler, cflags: Sequence[str]
) -> Iterator[Drivers]:
    """A folder for a while, with the person's file, as it was read, and the new one in it."""
    with TemporaryDirectory(prefix="agent-emit-") as made:
        function, owner = source.reading.function, other_owner(path)
        found = Drivers(Path(made), path, function, compiler, tuple(cflags), owner)
        found.made.mkdir(0o700)
        if found.user is not None:
            found.folder.chmod(0o711)
            os.chown(found.made, found.user, -1)
        found.put("old.c", source.text)
        found.put("new.c", new)
        yield found

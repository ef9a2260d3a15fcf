"""Every expected failure: what happened, to what, and what to do next."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of the commands, documented in docs/reference/exit-codes.md."""

    OK = 0
    USAGE = 2
    NOTHING_MEASURED = 3
    UNREACHABLE = 4
    NOT_TRUSTED = 5
    BUSY = 6
    NOTHING_TO_DO = 7
    NOT_NOW = 8
    PROBLEM = 9
    BUG = 70
    NOT_WRITTEN = 74
    INTERRUPTED = 130


class AgentError(Exception):
    """An expected failure; shown as ``message`` and ``hint``, never as a traceback.

    Attributes:
        message: what happened, and to what.
        hint: what the person can do next (may be empty).
        exit_code: the process exit code.
    """

    exit_code: Exit = Exit.USAGE

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class SourceError(AgentError):
    """A C file is outside the supported subset; ``message`` starts with ``file:line:column``."""


class ScheduleError(AgentError):
    """A schedule does not parse, does not fit the program, or breaks a dependence."""


class CompilerError(AgentError):
    """The C compiler is missing or refused a program; its own words are in ``message``."""


class MeasureError(AgentError):
    """A program could not be timed (crash, time limit, wrong result, memory)."""

    exit_code = Exit.NOTHING_MEASURED


class TaskLimitError(AgentError):
    """This place allows no more processes or threads; nothing can be compiled or timed."""

    exit_code = Exit.NOTHING_MEASURED


class BundleError(AgentError):
    """A bundle is incomplete, corrupt, or not made for this agent."""


class UnreachableError(AgentError):
    """The bundle repository does not answer: no network, no such directory, a server in trouble."""

    exit_code = Exit.UNREACHABLE


class UntrustedError(AgentError):
    """What a bundle repository offers is not signed as it must be, is expired, or is too old."""

    exit_code = Exit.NOT_TRUSTED


class StateError(AgentError):
    """The state directory or its database cannot be used."""


class DamagedError(StateError):
    """The state database is damaged; whatever opens it for writing sets it aside."""


class BusyError(AgentError):
    """Another agent process holds the lock."""

    exit_code = Exit.BUSY


class NothingToDoError(AgentError):
    """There is nothing that the command could do here: nothing is wrong either."""

    exit_code = Exit.NOTHING_TO_DO


class NotNowError(AgentError):
    """The machine is not quiet enough to be measured; what was measured before is kept."""

    exit_code = Exit.NOT_NOW


class GaveWayError(NotNowError):
    """Other work began while this machine was measured."""


class InputError(AgentError):
    """An option or argument of a command has a value that cannot be used."""


class ConfigError(AgentError):
    """A configuration file cannot be read, or holds something unknown."""


class StoppedError(AgentError):
    """Someone asked the agent to stop (Ctrl-C, SIGTERM); ``message`` says what is kept."""

    exit_code = Exit.INTERRUPTED

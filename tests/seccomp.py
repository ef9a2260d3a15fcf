"""System calls refused in this process and its children for good, as containers and snaps do."""

import ctypes
import errno
import platform
import struct

NUMBERS = {
    "x86_64": {"sched_setaffinity": 203, "sched_getaffinity": 204, "clone": 56, "clone3": 435},
    "aarch64": {"sched_setaffinity": 122, "sched_getaffinity": 123, "clone": 220, "clone3": 435},
}
CLONE_THREAD = 0x10000
_LOAD, _EQUALS, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06  # of classic BPF
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _step(code: int, yes: int, no: int, value: int) -> bytes:
    return struct.pack("HBBI", code, yes, no, value)


def refuse(**calls: int) -> None:
    """Let each of ``calls`` (name=errno) fail from now on; ``thread`` stands for new threads."""
    numbers = NUMBERS[platform.machine()]
    steps: list[bytes] = []
    if "thread" in calls:
        fail = calls.pop("thread")
        steps += [
            _step(_LOAD, 0, 0, 0),
            _step(_EQUALS, 0, 3, numbers["clone"]),
            _step(_LOAD, 0, 0, 16),  # the low half of its first argument, its flags
            _step(_ANY_BIT, 0, 1, CLONE_THREAD),
            _step(_RETURN, 0, 0, _FAIL | fail),
        ]
        calls["clone3"] = errno.ENOSYS  # its flags lie in memory; C libraries then use clone
    steps.append(_step(_LOAD, 0, 0, 0))
    for name, fail in calls.items():
        steps += [_step(_EQUALS, 0, 1, numbers[name]), _step(_RETURN, 0, 0, _FAIL | fail)]
    _install(b"".join([*steps, _step(_RETURN, 0, 0, _ALLOW)]))


def _install(code: bytes) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    kept = ctypes.create_string_buffer(code)
    program = _Program(len(code) // 8, ctypes.addressof(kept))
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    if libc.prctl(_PR_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")

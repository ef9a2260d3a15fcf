"""The process in which ``shared_object`` calls what it compiled; it imports next to nothing.

Every argument is memory of its own from ``malloc``, which a sanitizer watches.
"""

import ctypes
import pickle
import sys
from pathlib import Path

MEMORY = ctypes.CDLL(None)
MEMORY.malloc.restype = ctypes.c_void_p
MEMORY.malloc.argtypes = [ctypes.c_size_t]
MEMORY.free.argtypes = [ctypes.c_void_p]


def called(library: ctypes.CDLL, entry: str, arguments: list[bytes]) -> list[bytes]:
    """What is in the arguments' memory after the call."""
    places = [MEMORY.malloc(len(content)) for content in arguments]
    for place, content in zip(places, arguments, strict=True):
        ctypes.memmove(place, content, len(content))
    getattr(library, entry)((ctypes.c_void_p * len(places))(*places))
    left = [ctypes.string_at(p, len(c)) for p, c in zip(places, arguments, strict=True)]
    for place in places:
        MEMORY.free(place)
    return left


def main(library: str, folder: Path) -> None:
    """Make every call of the list, and keep what it left."""
    shared, left = ctypes.CDLL(library), []
    for number, (entry, arguments) in enumerate(pickle.loads((folder / "calls").read_bytes())):
        sys.stdout.write(f"run {number} {entry}\n")
        sys.stdout.flush()
        left.append(called(shared, entry, arguments))
    (folder / "left").write_bytes(pickle.dumps(left))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

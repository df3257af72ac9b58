"""Memory of a process that embeds on a CPU."""

import ctypes
from typing import Final

M_TRIM_THRESHOLD: Final = -1
M_MMAP_MAX: Final = -4
"""Parameters of glibc's `mallopt`; see `mallopt(3)`."""


def keep_freed_memory() -> bool:
    """Have this process use again what it has freed, rather than give it back to the system and ask for it anew.

    Every layer frees tensors of megabytes and asks for the same again; by default the system takes their pages, and
    clears them at the next touch. Memory of the process stays at its peak instead. False where the allocator is not
    glibc's, and nothing was changed.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, -1))

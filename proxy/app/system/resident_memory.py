"""Keeps resident memory small: bounds the heap of glibc, and releases code that only the start needed."""

from __future__ import annotations

import contextlib
import ctypes
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

MALLOPT = {-8: 1, -1: 131_072, -3: 131_072}
"""glibc's M_ARENA_MAX, M_TRIM_THRESHOLD and M_MMAP_THRESHOLD (malloc.h); other C libraries have no such call."""

_DONTNEED = 4  # MADV_DONTNEED (madvise(2))
_MAPS = Path("/proc/self/smaps")  # proc_pid_smaps(5)
_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (r-.p) \S+ \S+ (\d+)")


def keep_the_heap_small() -> None:
    """Make glibc use one heap for all threads and return large blocks at once; by default it keeps more."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in MALLOPT.items():
            mallopt(option, value)


def release_free_memory() -> None:
    """Return the free pages within glibc's heap to the kernel: bodies that come and go leave a tenth of it free."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def release_code_of_the_start() -> None:
    """Unmap the pages of libraries that the start has read; the kernel maps those again that are used from then on.

    These are pages of files that no process has written to, so nothing is lost: the kernel does the same when memory is
    short. A third of what the start leaves resident is such code, of the readers of settings and the like.
    """
    with contextlib.suppress(OSError, AttributeError):
        lib = ctypes.CDLL(None)
        lib.malloc_trim(0)
        for start, end in read_only_mappings(_MAPS.read_text().splitlines()):
            lib.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _DONTNEED)


def read_only_mappings(smaps: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Yields start and end of each mapping of a file that is read-only and of which no page was changed."""
    start = end = 0
    for line in smaps:
        if found := _MAPPING.match(line):
            start, end = (int(found[1], 16), int(found[2], 16)) if found[4] != "0" else (0, 0)
        elif "-" in line.partition(" ")[0]:  # another mapping
            start = end = 0
        elif end and line.split()[:2] == ["Anonymous:", "0"]:
            yield start, end

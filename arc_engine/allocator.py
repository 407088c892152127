"""What the C library does with memory that is freed."""

import ctypes
import platform
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_LARGEST: Final = 2**31 - 1


def keep_freed_memory() -> bool:
    """Has the process keep freed memory for what it allocates next, in place of giving it back to the system.

    A training step on a processor frees and allocates the same megabytes over and over. glibc gives them back until
    something larger was freed, and to have them from Linux again, page by page, is a tenth of a short step's time. The
    process stays as large as it ever was. False where the C library is not glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST)) and bool(mallopt(_M_TRIM_THRESHOLD, _LARGEST))

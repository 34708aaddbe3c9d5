"""The one exception that `hwl` raises for anything a user can put right."""

from __future__ import annotations

import builtins


class HwlError(Exception):
    """Bad input, told in one sentence that names the file, the entry and the remedy.

    The command line prints the message without a traceback and exits with status 1.
    """


def explained(name: str, text: str) -> str | None:
    """What another exception tells a user in one line, or None where it is an error of the program.

    The disk, permissions and memory are a user's to put right, whoever finds them wanting.

    Args:
        name: of the exception's class, which is all that a notebook's kernel tells of it.
        text: its message.
    """
    line = text.splitlines()[0] if text else "of this process"
    memory = name in ("MemoryError", "_ArrayMemoryError", "OutOfMemoryError")
    if memory or "DefaultCPUAllocator: can't allocate memory" in text:
        return f"memory ran out ({line}): lower batch_size or the input size"
    kind = getattr(builtins, name, None)
    return line if isinstance(kind, type) and issubclass(kind, OSError) else None

"""What engines opened before ``os.fork`` must not do after it.

A child has the memory of its parent but none of its threads. A session of ONNX Runtime that was opened before works on
in a child, without the threads that it was given, and its destructor waits for them for ever. So graphs are opened
again in a child, when they are first run, and what was opened before is never destroyed.

The end of the process has the same fault. ONNX Runtime 1.31 has a thread of its own for which its exit handler waits,
whatever was opened, and OpenVINO's crashed: a child that called ``sys.exit`` never ended. A child that inherits opened
graphs therefore leaves out the exit handlers of C libraries that were registered before the fork. Those of Python run,
and files are flushed. (``multiprocessing`` ends its children without exit handlers in any case.)

Forking while another thread encodes or decodes stays as unsafe as it is for every program with threads.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import Protocol


class Forkable(Protocol):
    """Something that holds what does not survive a fork."""

    def left_behind(self) -> tuple[object, ...]:
        """Forget what was opened in the parent, as the first thing in a child, and return it."""


_known: weakref.WeakSet[Forkable] = weakref.WeakSet()


def reopen_after_fork(holder: Forkable) -> None:
    """Have ``left_behind`` of an object called in every child that is forked while the object lives."""
    _known.add(holder)


def _in_child() -> None:
    inherited = [opened for holder in list(_known) for opened in holder.left_behind()]
    for opened in inherited:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(opened))  # one reference that nobody ever gives back
    if inherited:
        _leave_out_exit_handlers()


def _leave_out_exit_handlers() -> None:
    """Have ``exit`` end the process after the handlers that are registered from now on; glibc only."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "on_exit"):
        return
    # The last one registered is called first. Both are called with the status and a pointer, of which `_exit` takes
    # the status alone and `fcloseall`, which flushes all streams, nothing. Python is gone by then, so neither may be
    # a function of Python.
    for name in ("_exit", "fcloseall"):
        if hasattr(library, name):
            library.on_exit(ctypes.cast(getattr(library, name), ctypes.c_void_p), None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)

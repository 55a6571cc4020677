"""Workers that die, for the tests of Ray; a file of its own, since workers import it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from mlic.tools.ray_worker import RayWorker


class Deadly(RayWorker):
    """Is killed when it comes to ``kill.png``: each time, or once, if the contents name a file to note that in."""

    def _contents(self, path: str, value: Any) -> bytes:
        if path == "kill.png":
            note = Path(os.fsdecode((self._work.source / "note.txt").read()))
            if not note.exists():
                if note.suffix == ".once":
                    note.write_text("killed")
                os.kill(os.getpid(), signal.SIGKILL)
        return super()._contents(path, value)

"""Reading processes that fail as FFmpeg might; they import nothing, so that they start fast."""

import os
import time
from multiprocessing.connection import Connection


def die_or_hang(parent: Connection) -> None:
    """Crash at files whose name begins with "crash", and never answer about others."""
    parent.send("ready")
    if os.path.basename(parent.recv()).startswith("crash"):
        os._exit(3)
    time.sleep(60)

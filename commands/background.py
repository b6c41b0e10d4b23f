"""Work in the background: a command that goes on by itself when the one that began it has ended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from nearshot.schema.location import Location

NICENESS = 19
RUN = f"""
import os
os.nice({NICENESS})
try:
    with open("/proc/self/oom_score_adj", "w") as score:
        score.write("1000")
except OSError:
    pass
from nearshot.commands.main import main
main()
"""
"""It takes up to 2.5 GB: where memory is short, Linux is to end it before anything else."""

LOG = "compile.log"


def compile_in_background(names: Iterable[str], store: Location, weights: Path | None) -> bool:
    """Begin `nearshot backbones compile` at the lowest priority, its words in the cache's log; False where it cannot begin."""
    from nearshot.backbones.compiled import compiled_cache
    from nearshot.indexer.load_processes import import_path

    cache = compiled_cache()
    if cache is None:
        return False
    location = str(store.absolute() if isinstance(store, Path) else store)
    where = ["--weights", str(weights.absolute())] if weights else []
    try:
        cache.root.mkdir(parents=True, exist_ok=True)
        with (cache.root / LOG).open("wb") as log:
            subprocess.Popen(
                [sys.executable, "-P", "-c", RUN, "backbones", "compile", *names, *where],
                # An address may have a password, and arguments are shown to everybody.
                env=os.environ | {"PYTHONPATH": import_path(), "NEARSHOT_STORE": location},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
    except OSError:
        return False
    return True

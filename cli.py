"""nearshot's command line from a checkout: `python cli.py index data/` is `nearshot index data/`."""

from __future__ import annotations

from nearshot.commands.main import main

if __name__ == "__main__":
    main()

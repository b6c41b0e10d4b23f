"""What all commands share: options, the translation of errors, and the two consoles (data and progress)."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from backbones.limits import MAX_PIXELS
from schema.errors import NearshotError

if TYPE_CHECKING:
    from rich.console import Console

Function = TypeVar("Function", bound=Callable[..., Any])

INTERRUPTED = 130
"""Exit status of a run that the user stopped, as shells have it (128 + SIGINT)."""


def store_option(function: Function) -> Function:
    """Add --store."""
    return click.option(
        "--store",
        "store_directory",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="NEARSHOT_STORE",
        default=".nearshot",
        show_default=True,
        show_envvar=True,
        help="Directory that holds the index.",
    )(function)


def weights_option(function: Function) -> Function:
    """Add --weights."""
    return click.option(
        "--weights",
        type=click.Path(path_type=Path),
        envvar="NEARSHOT_WEIGHTS",
        show_envvar=True,
        help="Directory with weights, a subdirectory a backbone, for machines without a network.",
    )(function)


def device_option(function: Function) -> Function:
    """Add --device."""
    return click.option(
        "--device", default="auto", show_default=True, help="Where models run: auto, cuda, cuda:N, mps or cpu."
    )(function)


def max_pixels_option(function: Function) -> Function:
    """Add --max-pixels."""
    return click.option(
        "--max-pixels",
        type=click.IntRange(min=1),
        default=MAX_PIXELS,
        show_default=True,
        help="Refuse images of more pixels than this.",
    )(function)


def json_option(function: Function) -> Function:
    """Add --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")(function)


def reports_errors(function: Function) -> Function:
    """Turn the library's errors into one line on standard error and an exit status."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except NearshotError as error:
            click.echo(f"nearshot: {error}", err=True)
            sys.exit(error.exit_status)
        except KeyboardInterrupt:
            click.echo("nearshot: interrupted", err=True)
            sys.exit(INTERRUPTED)

    return wrapper  # type: ignore[return-value]


def output() -> Console:
    """The console of standard output. Away from a terminal it neither wraps nor colours, so that programs can read it."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else 500)


def progress_console() -> Console:
    """The console of standard error."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)

"""Code that all commands share: options, the translation of errors, and the two consoles (data and progress)."""

from __future__ import annotations

import functools
import math
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from nearshot.backbones.limits import MAX_PIXELS
from nearshot.schema.errors import NearshotError, UsageError
from nearshot.schema.location import Location, is_address, shown_location
from nearshot.schema.numbers import QUERY_NUMBERS
from nearshot.schema.paths import is_url, on_disk, path_of
from nearshot.schema.vocabulary import Score

if TYPE_CHECKING:
    from rich.console import Console

Function = TypeVar("Function", bound=Callable[..., Any])

STORE = ".nearshot"
"""Where the index is held unless somebody says otherwise."""

INTERRUPTED = 130
"""Exit status of a run that the user stopped, as shells have it (128 + SIGINT)."""


class FiniteRange(click.FloatRange):
    """A range of numbers that `nan` is not within, though it compares with none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number; a usage error for one outside the range."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not in the range", param, ctx)
        return number


class StoreLocation(click.Path):
    """A directory, or the address of a database, which is left as it is."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, file_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The directory, or the address."""
        if not str(value):
            self.fail("it is empty", param, ctx)
        if is_address(value):
            return value
        if is_url(value):
            self.fail(f"{value} is neither a directory nor the address of a PostgreSQL database", param, ctx)
        return super().convert(value, param, ctx)


class FilePath(click.Path):
    """A path on a disk, or, but for `on_disk`, the URL of an object (s3://BUCKET/..., gs://BUCKET/...) or of many below it."""

    def __init__(self, *, on_disk: bool = False, **more: Any) -> None:
        super().__init__(path_type=Path, **more)
        self._on_disk = on_disk

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path; a usage error for a URL that names none, or one that is on no disk."""
        if not is_url(value):
            return super().convert(value, param, ctx)
        try:
            return on_disk(value) if self._on_disk else path_of(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)


def number_option(name: str, flag: str | None = None, **more: Any) -> Callable[[Function], Function]:
    """Add an option that takes a number of a query (`schema.numbers`), by the library's name for it."""
    number = QUERY_NUMBERS[name]
    most = None if math.isinf(number.most) else number.most
    kind = FiniteRange(number.least, most, min_open=number.share and number.least == 0, max_open=number.share)
    flags = (flag, name) if flag else (f"--{name.replace('_', '-')}",)
    return click.option(*flags, type=kind, help=number.about, **more)


def store_option(function: Function) -> Function:
    """Add --store, which may also stand before the command."""

    def chosen(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        root = context.find_root()
        given = [
            each.get_parameter_source(str(parameter.name)) == ParameterSource.COMMANDLINE for each in (context, root)
        ]
        return root.params["store_location"] if given == [False, True] else value

    return click.option(
        "--store",
        "store_location",
        type=StoreLocation(),
        callback=chosen,
        envvar="NEARSHOT_STORE",
        default=STORE,
        show_default=True,
        show_envvar=True,
        help="Directory that holds the index, or the address of a PostgreSQL database (postgresql://...).",
    )(function)


def own_file(location: Location) -> Path | None:
    """The file of API keys in a store's directory; None for a store that keeps them itself."""
    return location / "keys.json" if isinstance(location, Path) else None


def naming_store(location: Location) -> str:
    """The option that names a store in a command that is to be typed next; nothing where it is the one without that."""
    if str(location) in (STORE, os.environ.get("NEARSHOT_STORE")):
        return ""
    return f" --store {shlex.quote(shown_location(location))}"


def mirror_option(function: Function) -> Function:
    """Add --mirror."""
    return click.option(
        "--mirror",
        envvar="NEARSHOT_MIRROR",
        show_envvar=True,
        help="Have the nearest images named by the mirror in this Milvus (`nearshot mirror`): milvus://HOST:19530.",
    )(function)


def weights_option(function: Function) -> Function:
    """Add --weights."""
    return click.option(
        "--weights",
        type=click.Path(path_type=Path),
        envvar="NEARSHOT_WEIGHTS",
        show_envvar=True,
        help="Directory with weights, one subdirectory per backbone, for machines without a network.",
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


def one_of(kind: type[StrEnum]) -> click.Choice[str]:
    """The values of an enumeration, to choose from."""
    return click.Choice([member.value for member in kind])


def score_option(function: Function) -> Function:
    """Add --score; None is auto."""
    return click.option(
        "--score",
        type=click.Choice(["auto", *(score.value for score in Score)]),
        default="auto",
        show_default=True,
        callback=lambda _context, _parameter, value: None if value == "auto" else value,
        help="What a label is scored by: its best image, the mean of its images, the votes of the nearest images, or lda: "
        "how much nearer it is than Unknown, regarding how labels vary. auto: what calibration found best.",
    )(function)


def json_option(function: Function) -> Function:
    """Add --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")(function)


LISTED = 10
"""Items of a list that are shown."""

FLAGS = {"margin_floor": "--margin", "all_queries": "--all"}
"""Options that the command line calls otherwise than by their name."""


def flag(name: str) -> str:
    """The flag of an option of the library."""
    return FLAGS.get(name, f"--{name.replace('_', '-')}")


def reports_errors(function: Function) -> Function:
    """Turn the library's errors into one line on standard error and an exit status."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except NearshotError as error:
            click.echo(f"nearshot: {printable(error.told(flag))}", err=True)
            sys.exit(error.exit_status)
        except BrokenPipeError:
            raise  # click ends quietly when the reader of a pipe has gone
        except OSError as error:
            click.echo(f"nearshot: {printable(str(error.filename or ''))}: {error.strerror or error}", err=True)
            sys.exit(1)
        except KeyboardInterrupt:
            click.echo("nearshot: interrupted", err=True)
            sys.exit(INTERRUPTED)

    return wrapper  # type: ignore[return-value]


def output() -> Console:
    """The console of standard output. Away from a terminal it neither wraps nor colours, so that programs can read it."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else 500)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], names: Collection[str]) -> None:
    """Print a table whose columns are numbers, but for those with names; where it is too wide for the terminal, as records.

    Nothing of a cell is ever cut off.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="left" if column in names else "right", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    console = output()
    if console.measure(table, options=console.options.update(max_width=1 << 16)).maximum <= console.width:
        console.print(table)
        return
    longest = max(map(len, columns))
    for row in rows:
        cells = dict(zip(columns, (" ".join(cell.split()) for cell in row), strict=True))
        click.echo("  ".join(cells[column] for column in columns if column in names))
        for column, cell in cells.items():
            if column not in names:
                click.echo(f"  {column:<{longest}}  {cell}")


@contextmanager
def stopping_politely() -> Iterator[Callable[[], bool]]:
    """Make the first Ctrl-C (or SIGTERM) a wish to stop, and the second an interrupt."""
    wish = threading.Event()

    def stop(_number: int, _frame: object) -> None:
        if wish.is_set():
            raise KeyboardInterrupt
        wish.set()
        click.echo("nearshot: committing what is done; press Ctrl-C again to drop it", err=True)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield wish.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def decodable(path: str) -> str:
    """A path whose bytes are no UTF-8 with those bytes escaped, so that any program can read the JSON that it stands in."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def printable(text: str) -> str:
    """A name or words on one line of a terminal, that can do nothing to it: control characters are escaped, too."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in decodable(text)
    )


def near(path: str) -> str:
    """A path as seen from the working directory, where it lies below it; whole where that is all there is."""
    here = Path.cwd()
    below = Path(path).is_relative_to(here) and here != Path(here.anchor)
    return printable(str(Path(path).relative_to(here)) if below else path)


def listed(title: str, items: list[str]) -> list[str]:
    """The lines of a list with a title, the first ten; none for no items."""
    if not items:
        return []
    more = [f"  ... and {len(items) - LISTED} more; --json lists all"] if len(items) > LISTED else []
    return [f"{title}:", *(f"  {printable(item)}" for item in items[:LISTED]), *more]

"""`nearshot` alone: where you are, and what comes next."""

from __future__ import annotations

from nearshot.commands.common import printable
from nearshot.schema.errors import NearshotError
from nearshot.schema.location import Location, shown_location

BEGINNING = """Nothing is indexed here yet. Put a few shots of each thing that is to be recognised into

    data/<category>/2.support-set/<label>/shot1.jpg, shot2.jpg, ...

and what is to be recognised anywhere below data/<category>/6.preprocessed/. Then type

    nearshot index data/
    nearshot query some-image.jpg

Pictures with several things in them go to data/<category>/1.raw/, for `nearshot crop data/`. A folder with one directory per
class becomes a data directory by `nearshot import folder FOLDER data/`."""


def where_you_are(location: Location) -> str:
    """What is indexed in a store, and what comes next."""
    from nearshot.schema.calibrations import all_calibrations
    from nearshot.schema.store import Store, is_there
    from nearshot.schema.vocabulary import Role

    try:
        if not is_there(location):
            return BEGINNING
        with Store(location, upgrade=False) as store, store.reading() as catalog:
            counts = catalog.count_images()
            rows = catalog.backbones()
            roots = list(catalog.roots().values())
            calibrated = {each.category for row in rows for each in all_calibrations(catalog, row.id)}
    except NearshotError as error:
        return f"The store at {printable(shown_location(location))} cannot be read: {error}"
    support = {count.category: count for count in counts if count.role == Role.SUPPORT and count.images}
    queries = {count.category: count.images for count in counts if count.role == Role.QUERY}
    if not support:
        return BEGINNING
    lines = [f"Indexed with {', '.join(row.name for row in rows)}, from {', '.join(map(printable, roots))}:", ""]
    lines += [
        f"    {printable(category)}: {count.labels} labels, {count.shots} shots, {queries.get(category, 0)} queries"
        f"{'' if category in calibrated else '; not calibrated'}"
        for category, count in support.items()
    ]
    data = printable(roots[0]) if roots else "DATA"
    steps = {
        f"nearshot index {data}": "take up what is new or has changed",
        "nearshot query IMAGE": "recognise an image, or many",
        **({} if support.keys() <= calibrated else {"nearshot calibrate": "set thresholds from your own images"}),
        "nearshot next": "which images are most worth labelling",
        "nearshot serve": "all of it on a page",
    }
    widest = max(map(len, steps))
    return "\n".join([*lines, "", *(f"    {step:<{widest}}  {does}" for step, does in steps.items())])

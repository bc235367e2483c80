"""caecodec weights: lists installed weights, shows what a file or group holds, and installs it."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from .. import weights
from ..errors import WeightsError
from ..storage.locations import OZX, ZIP, Location, is_url, parse_location
from ..weights import Source, file

SUMMARY = "List, show and install weights, from files or from the groups that carry them."
_WIDTH = 200  # characters shown of a file's notes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of caecodec weights."""
    actions = parser.add_subparsers(metavar="ACTION", required=True, dest="action")

    def add(name: str, summary: str) -> argparse.ArgumentParser:
        return actions.add_parser(name, help=summary, description=summary)

    add("list", "List installed weights: name and digest, metric, qualities, bytes, and where they are.")
    add("show", "Show all about weights.").add_argument(
        "what", type=parse_location, metavar="DIGEST|FILE|GROUP", help="the start of a digest, a .safetensors file, or a group"
    )
    add("install", "Copy weights into your folder, where they are found by their digest.").add_argument(
        "sources", nargs="+", type=parse_location, metavar="GROUP|FILE",
        help="a .safetensors file, or a group that carries weights, also zipped (.ozx, .zip); a path or URL",
    )  # fmt: skip
    add("path", "Print the path of a weights file.").add_argument(
        "digest", metavar="DIGEST", help="the first eight or more digits of the file's SHA-256"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the action that was asked for."""
    if arguments.action == "list":
        for origin, sources in weights.by_place().items():
            for source in sources:
                print(_line(source, origin))
        for refused in weights.damaged():
            print(f"DAMAGED: {refused.reason}")
    elif arguments.action == "show":
        found = _found(arguments.what)
        print("\n\n".join(map(_description, found)))
    elif arguments.action == "install":
        for one in arguments.sources:
            for source in weights.install(one):
                print(f"{source.location}: {source}")
    else:
        print(weights.by_digest(arguments.digest).location)
    return 0


def _line(source: Source, origin: str) -> str:
    """One line of the list; of damaged weights it says only that they are damaged."""
    try:
        return f"{source}, {origin}, {len(weights.file_bytes(source))} bytes"
    except WeightsError as error:
        return f"DAMAGED: {error}"


def _found(what: Location) -> Sequence[Source]:
    """The weights that a digest, a file or a group names."""
    is_place = is_url(what) or Path(what).exists() or Path(what).suffix.lower() in (".safetensors", ".zarr", ZIP, OZX)
    return weights.read(what) if is_place else [weights.by_digest(str(what))]


def _description(source: Source) -> str:
    data = weights.file_bytes(source)
    loaded = file.quality_weights(data, source.qualities[0], source.where)
    channels = loaded.family.channels(loaded.network)
    rows = {
        "SHA-256": source.sha256,
        "metric": source.metric,
        "qualities": ", ".join(map(str, source.qualities)),
        "family": source.family,
        "channels": ", ".join(f"{count} {kind}" for kind, count in channels.items()),
        "entropy coding": ", ".join(loaded.tables),
        "bytes": str(len(data)),
        "file": str(source.location or "carried by the group"),
        **{_plain(key): _plain(text) for key, text in file.notes(data).items()},
    }
    return "\n".join([str(source.spec), *(f"  {name:15} {value}" for name, value in rows.items())])


def _plain(text: str) -> str:
    """A file's note on one line, without control characters."""
    return "".join(c if c.isprintable() else " " for c in text)[:_WIDTH]

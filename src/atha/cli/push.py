"""``atha push``: an adapter to the model hub."""

from pathlib import Path
from typing import Annotated

import typer

from atha.cli import common
from atha.cli.common import verb
from atha.documents.tables import Table
from atha.errors import AdapterError


@verb
def push(
    adapter: Annotated[Path, typer.Argument(help="Folder made by atha fit.")],
    repository: Annotated[str, typer.Argument(metavar="ORG/NAME", help="Repository of the model hub.")],
    public: Annotated[bool, typer.Option("--public", help="Let everybody see it; otherwise it is private.")] = False,
    support: Annotated[
        bool, typer.Option("--support", help="Send the small pictures and features of the support images, too.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Send without asking.")] = False,
    json: common.Json = False,
    debug: common.Debug = False,
) -> None:
    """Send ADAPTER to the model hub, after showing what would be sent."""
    from atha.adapter.files import read_adapter
    from atha.adapter.hub import PREFIX, is_named, parse
    from atha.adapter.pushing import packed, send

    name = repository.removeprefix(PREFIX)
    if parse(name).revision is not None:
        raise AdapterError(
            f"{repository} names a revision, and what is sent is a new one: leave @ and what follows out"
        )
    if is_named(adapter):
        raise AdapterError(f"{adapter} is on the hub: give a folder on this machine")
    with packed(read_adapter(adapter), name, support) as parcel:
        if not json:
            rows = [[file, f"{size:,}"] for file, size in parcel.sizes.items()]
            title = f"To {name}, {'for everybody to see' if public else 'private'}"
            common.print_table(Table(title, ["file", "bytes"], rows))
            for sentence in parcel.left_out:
                common.say(f"Not sent: {sentence}.")
        for sentence in parcel.missing:
            common.warn(f"the model card does not say {sentence}")
        if not yes:
            if json or not common.is_interactive():
                raise AdapterError("nothing was sent: pass --yes to send it")
            if not typer.confirm("Send it?", err=True):
                raise AdapterError("nothing was sent, as you wished: --yes sends it without asking")
        commit = send(parcel, name, public)
    if json:
        told = {"adapter": f"{PREFIX}{name}", "commit": commit, "files": parcel.sizes, "missing": parcel.missing}
        common.print_json(told)
        return
    common.print_text(f"Sent. To use it: atha predict {PREFIX}{name}@{commit} photos/")

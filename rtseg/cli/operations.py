"""The commands that keep a daemon running: keys, its status, and another bundle while it serves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from rtseg.cli.app import KeyFile, above_zero, app

keys_app = typer.Typer(help="Keys for connections from beyond loopback.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")

Folder = Annotated[
    Path | None, typer.Option("--keys", help="Folder of the daemon's keys; default ~/.config/rtseg/keys.")
]
Address = Annotated[str, typer.Argument(help="Frames address of a running daemon.")]


@keys_app.command("new")
def keys_new(
    name: Annotated[str, typer.Argument(help="Of whoever gets the key, e.g. camera1.", show_default=False)],
    role: Annotated[list[str], typer.Option("--role", help="publish, subscribe, control or arm (repeatable).")],
    keys: Folder = None,
    out: Annotated[Path | None, typer.Option("--out", help="The key file; default NAME.key here.")] = None,
) -> None:
    """Accept a new key, and write the file that its owner needs."""
    from rtseg.wire.keys import KeyStore, default_folder, make_key_file

    file = out or Path(f"{name}.key")
    store = KeyStore(keys or default_folder())
    make_key_file(store, name, role, file)
    typer.echo(f"{file}: key {name!r} may {', '.join(role)}; whoever holds this file may, so keep it secret")
    typer.echo(f"the daemon takes it with: rtseg serve BUNDLE --keys {store.folder}")


@keys_app.command("list")
def keys_list(
    keys: Folder = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """List the accepted keys."""
    from dataclasses import asdict

    from rtseg.terminal.daemon_status import print_keys
    from rtseg.wire.keys import KeyStore, default_folder

    store = KeyStore(keys or default_folder())
    grants, problems = store.grants()
    rows = sorted(grants.values(), key=lambda grant: grant.name)
    if as_json:
        typer.echo(json.dumps([asdict(grant) for grant in rows]))
    else:
        print_keys(rows)
    if not rows:
        typer.echo(f"no key is let in by {store.folder}; make one with: rtseg keys new NAME --role publish", err=True)
    for problem in problems:
        typer.echo(f"rtseg: {problem}", err=True)


@keys_app.command("revoke")
def keys_revoke(
    name: Annotated[str, typer.Argument(help="As `rtseg keys list` shows it.", show_default=False)],
    keys: Folder = None,
) -> None:
    """Revoke a key; a running daemon ends its streams and connections within a second."""
    from rtseg.wire.keys import KeyStore, default_folder

    grant = KeyStore(keys or default_folder()).revoke(name)
    typer.echo(f"key {grant.name!r} ({', '.join(grant.roles)}) is revoked")


@app.command()
def status(
    address: Address = "tcp://127.0.0.1:5757",
    key: KeyFile = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for an answer.", callback=above_zero)] = 5.0,
    as_json: Annotated[bool, typer.Option("--json", help="All of it, as JSON.")] = False,
) -> None:
    """Show the state of a running daemon: streams, counters, latencies."""
    from rtseg.client import ask_status
    from rtseg.terminal.daemon_status import print_status

    answer = ask_status(address, timeout_s=timeout, key=key)
    if as_json:
        typer.echo(json.dumps(answer))
    else:
        print_status(address, answer)


@app.command("load")
def swap_bundle(
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle on the daemon's machine.", show_default=False)],
    to: Annotated[str, typer.Option("--to", help="Frames address of a running daemon.")] = "tcp://127.0.0.1:5757",
    stream: Annotated[str | None, typer.Option(help="Only this stream; default: all, and those to come.")] = None,
    key: KeyFile = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait until it is loaded.", callback=above_zero)] = 120.0,
) -> None:
    """Swap the bundle of a running daemon between two frames; no frame is lost."""
    from rtseg.client import ask_load

    # The daemon has another working folder.
    done = ask_load(to, bundle.resolve(), stream=stream, timeout_s=timeout, key=key)
    whose = f"stream {stream!r}" if stream else f"{len(done['streams'])} open streams and all to come"
    typer.echo(f"model {done['model'][:12]} ({done['engine']}) answers {whose}")


Stream = Annotated[str | None, typer.Argument(help="An open stream; default: all, and those to come.")]
Connect = Annotated[str, typer.Option("--connect", help="Frames address of a running daemon.")]


@app.command()
def arm(
    stream: Stream = None,
    for_s: Annotated[
        float | None, typer.Option("--for", help="Disarm after so many seconds.", callback=above_zero)
    ] = None,
    address: Connect = "tcp://127.0.0.1:5757",
    key: KeyFile = None,
) -> None:
    """Arm the triggers of a running daemon: from now on they act on animals."""
    from rtseg.client import ask_arm
    from rtseg.terminal.daemon_status import arming_line

    typer.echo(arming_line(ask_arm(address, stream, for_s=for_s, key=key)))


@app.command()
def disarm(stream: Stream = None, address: Connect = "tcp://127.0.0.1:5757", key: KeyFile = None) -> None:
    """Disarm the triggers of a running daemon; what runs ends at once."""
    from rtseg.client import ask_disarm
    from rtseg.terminal.daemon_status import arming_line

    typer.echo(arming_line(ask_disarm(address, stream, key=key)))

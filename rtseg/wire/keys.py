"""Keys: who may connect from beyond loopback, and what for. Files in a folder; no sockets here.

A key is a CURVE25519 pair (ZeroMQ's CURVE). The daemon's folder holds its own pair and the public half of every client
that is accepted; the secret half is in the client's key file alone. docs/security.md says what this protects against.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq

from rtseg.errors import ServeError
from rtseg.system.capabilities import FILES_HAVE_OWNERS

ROLES = ("publish", "subscribe", "control", "arm")
"""publish: streams of frames. subscribe: predictions. control: status, load, stop. arm: arm and disarm triggers."""
SERVER_FILE = "server.toml"
ALLOWED, REVOKED = "allowed", "revoked"
# It becomes part of a file's name, so it may hold no slash and not begin with a dot.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_Z85 = re.compile(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")


_PASSING = {
    getattr(errno, name, None)
    for name in ("EMFILE", "ENFILE", "ENOMEM", "ENOBUFS", "EAGAIN", "EINTR", "EIO", "EREMOTEIO", "ESTALE", "ETIMEDOUT")
}
"""Numbers of the errors of `UnreadableKeysError`; a system without one of them has None."""


class KeyFileError(ServeError):
    """A key, or a file or folder of keys, that cannot be used."""


class UnreadableKeysError(KeyFileError):
    """A file or folder of keys that cannot be read for a reason that says nothing of it and may pass: no file
    descriptor is left, a network's drive does not answer, a folder has become another user's.
    """


@dataclass(frozen=True)
class Grant:
    """What one key may do. public: 40 characters (Z85). created: UTC, ISO 8601."""

    name: str
    public: str
    roles: tuple[str, ...]
    created: str


@dataclass(frozen=True)
class ClientKey:
    """What a client needs: its own pair, and the daemon's public half, by which it knows the daemon."""

    name: str
    public: str
    secret: str
    server: str


class KeyStore:
    """The daemon's folder of keys.

    folder/server.toml: its own pair. folder/allowed/NAME.toml: an accepted key. folder/revoked/: keys that
    were accepted once. All files have mode 0600, the folders 0700.
    """

    def __init__(self, folder: Path | str) -> None:
        """Raises KeyFileError where the folder is a file, such as somebody's own key."""
        self.folder = Path(folder).expanduser()
        with contextlib.suppress(PermissionError):  # told of the files in it, whose kinds are known
            if self.folder.is_file():
                raise KeyFileError(f"{self.folder}: is a file, and a daemon's keys are a folder; name that folder")
        self._path_of: dict[str, Path] = {}  # public half -> the file that was read last

    def server(self) -> tuple[str, str]:
        """The daemon's pair (public, secret), made on first use. Raises KeyFileError."""
        path = self.folder / SERVER_FILE
        if not _is_there(path):
            _make_folder(self.folder)
            public, secret = _pair()
            with contextlib.suppress(FileExistsError):  # another process was faster: its pair is read below
                _write(path, {"public": public, "secret": secret})
        plain = _read(path, ("public", "secret"), secret=True)
        return plain["public"], plain["secret"]

    def new(self, name: str, roles: Sequence[str]) -> ClientKey:
        """Accept a new key. Raises KeyFileError for a name that is taken or none, or for unknown roles."""
        if not _NAME.fullmatch(name):
            raise KeyFileError(f"key name {name!r}: expected 1 to 64 letters, digits, dots, dashes or underscores")
        unknown = [role for role in roles if role not in ROLES]
        if unknown or not roles:
            raise KeyFileError(
                f"roles of key {name!r}: expected one or more of {', '.join(ROLES)}; got {', '.join(roles) or 'none'}"
            )
        server, _ = self.server()
        _make_folder(self.folder / ALLOWED)
        public, secret = _pair()
        grant = {"name": name, "public": public, "roles": [r for r in ROLES if r in roles], "created": _now()}
        try:
            _write(self.folder / ALLOWED / f"{name}.toml", grant)
        except FileExistsError:
            raise KeyFileError(f"key {name!r} exists: revoke it first, or choose another name") from None
        # Only the owner gets the secret half; the daemon's folder never holds it.
        return ClientKey(name, public, secret, server)

    def grants(self) -> tuple[dict[str, Grant], list[str]]:
        """Public half -> what it may do, and a line for every file that could not be read (and lets nobody in).

        Raises UnreadableKeysError where it cannot be known.
        """
        # A damaged file shuts out its own key only, not all of them.
        found: dict[str, Grant] = {}
        problems, folder = [], self.folder / ALLOWED
        for name in sorted(entry.name for entry in _entries(folder) if entry.name.endswith(".toml")):
            try:
                grant = _grant(folder / name)
            except UnreadableKeysError:
                raise
            except KeyFileError as error:
                problems.append(str(error))
                continue
            # By the public half, because that is what a connection shows.
            found[grant.public] = grant
            self._path_of[grant.public] = folder / name
        return found, problems

    def has_file(self, public: str) -> bool:
        """Whether a key that `grants` gave still has its file; takes no file descriptor."""
        try:
            return _is_there(self._path_of[public])
        except UnreadableKeysError:
            return True

    def revoke(self, name: str) -> Grant:
        """Stop accepting a key; a running daemon follows within a second. Raises KeyFileError where there is none."""
        path = self.folder / ALLOWED / f"{name}.toml"
        if not _NAME.fullmatch(name) or not _is_there(path):
            names = ", ".join(p.stem for p in sorted((self.folder / ALLOWED).glob("*.toml")))
            raise KeyFileError(f"no key {name!r} in {self.folder}; there are: {names or 'none'}")
        grant = _grant(path)
        _make_folder(self.folder / REVOKED)
        # With the time, so that a name can be given and revoked again; the file stays as a record.
        path.rename(self.folder / REVOKED / f"{name}-{time.time_ns()}.toml")
        return grant

    def fingerprint(self) -> tuple[tuple[str, int, int], ...]:
        """Changes whenever a key is added, changed or revoked; costs a look into one folder.

        Raises UnreadableKeysError.
        """
        folder = self.folder / ALLOWED
        try:
            stats = [(entry.name, entry.stat()) for entry in _entries(folder)]
        except FileNotFoundError:  # one that has just gone
            return ()
        except OSError as error:
            raise UnreadableKeysError(_unreadable(folder, error)) from None
        # The inode as well: a file that was replaced within the clock's resolution has the same time.
        return tuple(sorted((name, stat.st_mtime_ns, stat.st_ino) for name, stat in stats))


def make_key_file(store: KeyStore, name: str, roles: Sequence[str], path: Path) -> ClientKey:
    """Accept a new key and write the file that its owner gets (mode 0600).

    Raises KeyFileError as `KeyStore.new` does, and where the file exists or cannot be written: no key is accepted then.
    """
    if _is_there(path):
        raise KeyFileError(f"{path} exists: move it away, or write to another file")
    key = store.new(name, roles)
    plain = {"name": key.name, "public": key.public, "secret": key.secret, "server": key.server}
    try:
        _write(path, plain)
    except (KeyFileError, FileExistsError):
        # Otherwise a key would stay allowed whose secret half nobody has.
        store.revoke(name)
        raise KeyFileError(f"{path} cannot be written: choose another file with --out") from None
    return key


def read_client_key(path: Path | str) -> ClientKey:
    """Read a client's key file. Raises KeyFileError for another kind of file, or one that others can read."""
    path = Path(path).expanduser()
    plain = _read(path, ("name", "public", "secret", "server"), secret=True)
    return ClientKey(plain["name"], plain["public"], plain["secret"], plain["server"])


def default_folder() -> Path:
    """The folder of keys where none is named."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "rtseg" / "keys"


def _pair() -> tuple[str, str]:
    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder; nothing where there is none. Raises UnreadableKeysError."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UnreadableKeysError(_unreadable(folder, error)) from None


def _is_there(path: Path) -> bool:
    """Whether there is a file; takes no file descriptor. Raises UnreadableKeysError where it cannot be known."""
    try:
        path.stat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UnreadableKeysError(_unreadable(path, error)) from None
    return True


def _unreadable(path: Path, error: OSError) -> str:
    """What is to be said of a file or folder that there is, and whose it is where that is the reason."""
    words = f"{path}: cannot be read: {error.strerror or error}"
    if not isinstance(error, PermissionError) or not FILES_HAVE_OWNERS:
        return words
    for there in (path, *path.parents):  # the first whose owner can be seen keeps what is below to itself
        with contextlib.suppress(OSError):
            owner, own = there.stat().st_uid, os.geteuid()
            return words if owner == own else f"{words}: {there} is {_user(owner)}'s, and this is run by {_user(own)}"
    return words


def _user(number: int) -> str:
    """A user's name, or its number where it has none."""
    import pwd  # not on Windows

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def _grant(path: Path) -> Grant:
    plain = _read(path, ("name", "public", "roles", "created"))
    roles = plain["roles"]
    if type(roles) is not list or not roles or any(role not in ROLES for role in roles):
        raise KeyFileError(f"{path}: 'roles': expected a list of {', '.join(ROLES)}; got {roles!r}")
    return Grant(plain["name"], plain["public"], tuple(roles), plain["created"])


def _read(path: Path, fields: tuple[str, ...], *, secret: bool = False) -> dict[str, Any]:
    try:
        # Refused, not mended: it may have been read already.
        # 0o077: any right of the group or of others.
        if secret and FILES_HAVE_OWNERS and path.stat().st_mode & 0o077:
            raise KeyFileError(f"{path} holds a secret that others can read: chmod 600 {path}")
        plain = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise KeyFileError(f"{path}: no such key file: `rtseg keys new NAME --role ROLE` makes one") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        if isinstance(error, OSError):
            kind = UnreadableKeysError if error.errno in _PASSING else KeyFileError
            raise kind(_unreadable(path, error)) from None
        raise KeyFileError(f"{path}: not a key file of rtseg: {error}") from None
    if set(plain) != set(fields):
        raise KeyFileError(f"{path}: expected the keys {', '.join(fields)}; got {', '.join(plain) or 'none'}")
    for field in fields:
        value = plain[field]
        if field in ("public", "secret", "server") and not (type(value) is str and _Z85.fullmatch(value)):
            raise KeyFileError(f"{path}: {field!r}: expected 40 characters of Z85")
        if field != "roles" and type(value) is not str:
            raise KeyFileError(f"{path}: {field!r}: expected a text, got {type(value).__name__}")
    return plain


def _write(path: Path, plain: dict[str, Any]) -> None:
    """A new file that only its owner can read; it appears whole or not at all. Raises FileExistsError."""
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in plain.items())
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            if _is_root():
                os.fchown(file.fileno(), *_owner(path.parent))
            os.fsync(file.fileno())
        os.link(draft, path)  # unlike a rename this never replaces a file
    except FileExistsError:
        raise
    except OSError as error:
        raise KeyFileError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        draft.unlink(missing_ok=True)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True)
        if _is_root():
            os.lchown(folder, *_owner(folder.parent))
    except FileExistsError:
        return
    except OSError as error:
        raise KeyFileError(f"{folder}: cannot be made: {error.strerror or error}") from None


def _is_root() -> bool:
    """Whether what this process makes is to belong to whoever has the folder: a service's own user is to read it."""
    return FILES_HAVE_OWNERS and os.geteuid() == 0


def _owner(path: Path) -> tuple[int, int]:
    about = path.stat()
    return about.st_uid, about.st_gid


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())

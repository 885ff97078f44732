"""Keys on disk: who may read them, what is in them, and what a damaged one does."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rtseg.wire.keys import KeyFileError, KeyStore, UnreadableKeysError, make_key_file, read_client_key

NOBODY = 65534


@contextmanager
def closed(path: Path) -> Iterator[str]:
    """This user may not read it; gives what is said of that. Root reads everything, so it becomes somebody else."""
    mode, is_root = stat.S_IMODE(path.stat().st_mode), os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    else:
        path.chmod(0)
    try:
        yield rf"cannot be read: Permission denied{': .* is root.s, and this is run by nobody' if is_root else ''}$"
    finally:
        if is_root:
            os.seteuid(0)
        else:
            path.chmod(mode)


def test_files_that_nobody_else_reads(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys")
    made = make_key_file(store, "camera1", ["subscribe", "publish"], tmp_path / "camera1.key")
    assert read_client_key(tmp_path / "camera1.key") == made
    for path in (tmp_path / "keys").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert stat.S_IMODE((tmp_path / "camera1.key").stat().st_mode) == 0o600
    everything = "".join(p.read_text() for p in (tmp_path / "keys").rglob("*.toml"))
    assert made.secret not in everything  # the daemon's machine can't act as a client
    grants, problems = store.grants()
    assert [(g.name, g.roles) for g in grants.values()] == [("camera1", ("publish", "subscribe"))]
    assert list(grants) == [made.public]
    assert problems == []
    assert made.server == store.server()[0] == KeyStore(tmp_path / "keys").server()[0]


def test_revoking_and_making_anew(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    first = store.new("camera1", ["publish"])
    before = store.fingerprint()
    with pytest.raises(KeyFileError, match="key 'camera1' exists: revoke it first"):
        store.new("camera1", ["publish"])
    assert store.revoke("camera1").public == first.public
    assert store.fingerprint() != before
    assert store.grants() == ({}, [])
    with pytest.raises(KeyFileError, match=r"no key 'camera1' in .*; there are: none"):
        store.revoke("camera1")
    assert store.new("camera1", ["publish"]).public != first.public


@pytest.mark.parametrize(
    ("name", "roles", "reason"),
    [
        ("../x", ["publish"], "expected 1 to 64 letters"),
        ("", ["publish"], "expected 1 to 64 letters"),
        ("x", ["admin"], "expected one or more of publish, subscribe, control, arm; got admin"),
        ("x", [], "got none"),
    ],
)
def test_names_and_roles(tmp_path: Path, name: str, roles: list[str], reason: str) -> None:
    with pytest.raises(KeyFileError, match=reason):
        KeyStore(tmp_path).new(name, roles)
    with pytest.raises(KeyFileError, match=r"no key '\.\./x'"):
        KeyStore(tmp_path).revoke("../x")


def test_a_key_file_that_cannot_be_used(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys")
    path = tmp_path / "a.key"
    make_key_file(store, "a", ["publish"], path)
    with pytest.raises(KeyFileError, match="exists: move it away"):
        make_key_file(store, "b", ["publish"], path)
    assert [g.name for g in store.grants()[0].values()] == ["a"]  # nobody got in by the failure
    with pytest.raises(KeyFileError, match="cannot be written"):
        make_key_file(store, "b", ["publish"], tmp_path / "nowhere" / "b.key")
    assert [g.name for g in store.grants()[0].values()] == ["a"]
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match="holds a secret that others can read: chmod 600"):
        read_client_key(path)
    path.chmod(0o600)
    path.write_text(path.read_text().replace("secret = ", 'secret = "short" #'))
    with pytest.raises(KeyFileError, match="'secret': expected 40 characters of Z85"):
        read_client_key(path)
    path.write_text("[keys]")
    with pytest.raises(KeyFileError, match="expected the keys name, public, secret, server; got keys"):
        read_client_key(path)
    with pytest.raises(KeyFileError, match="no such key file"):
        read_client_key(tmp_path / "none.key")


def test_a_damaged_grant_lets_nobody_in_and_the_others_stay(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    kept = store.new("kept", ["publish"])
    store.new("broken", ["publish"])
    path = tmp_path / "allowed" / "broken.toml"
    path.write_text(path.read_text().replace("publish", "everything"))
    grants, problems = store.grants()
    assert list(grants) == [kept.public]
    assert len(problems) == 1
    assert "broken.toml: 'roles': expected a list of publish, subscribe, control" in problems[0]


def test_keys_that_this_user_may_not_read_are_not_taken_for_none(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys")
    made = make_key_file(store, "camera1", ["publish"], tmp_path / "camera1.key")
    store.grants()
    with closed(store.folder / "allowed") as words:
        for read in (store.grants, store.fingerprint, lambda: store.revoke("camera1")):
            with pytest.raises(UnreadableKeysError, match=f"allowed.*: {words}"):
                read()
        assert store.has_file(made.public)  # nobody has seen it go
    with closed(store.folder) as words, pytest.raises(KeyFileError, match=f"server.toml: {words}"):
        KeyStore(store.folder).server()
    with closed(tmp_path / "camera1.key") as words, pytest.raises(KeyFileError, match=f"camera1.key: {words}"):
        read_client_key(tmp_path / "camera1.key")
    assert [g.name for g in store.grants()[0].values()] == ["camera1"]


def test_what_should_be_a_folder_of_keys_and_is_none(tmp_path: Path) -> None:
    (tmp_path / "allowed").touch()
    with pytest.raises(UnreadableKeysError, match="allowed: cannot be read: Not a directory"):
        KeyStore(tmp_path).grants()


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone makes files for others")
def test_keys_that_root_makes_belong_to_the_user_who_has_the_folder() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "keys")
        folder.mkdir()
        os.chown(folder, NOBODY, NOBODY)
        key = make_key_file(KeyStore(folder), "camera1", ["publish"], Path(name, "camera1.key"))
        made = list(folder.rglob("*"))
        assert {path.name for path in made} == {"server.toml", "allowed", "camera1.toml"}
        assert {path.stat().st_uid for path in made} == {NOBODY}
        assert Path(name, "camera1.key").stat().st_uid == 0
        Path(name).chmod(0o755)
        os.seteuid(NOBODY)
        try:
            assert list(KeyStore(folder).grants()[0]) == [key.public]
        finally:
            os.seteuid(0)

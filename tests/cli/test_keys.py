"""`rtseg keys`."""

from __future__ import annotations

import json
from pathlib import Path

from tests.commands import here
from tests.live import daemon


def test_keys_as_a_user_makes_them(tmp_path: Path, tiny_bundle: Path) -> None:
    keys = str(tmp_path / "keys")
    made = here("keys", "new", "camera1", "--role", "publish", "--role", "subscribe", "--keys", keys, cwd=tmp_path)
    assert (made.returncode, made.stderr) == (0, "")
    assert "camera1.key: key 'camera1' may publish, subscribe" in made.stdout
    assert f"rtseg serve BUNDLE --keys {keys}" in made.stdout
    here("keys", "new", "boss", "--role", "control", "--keys", keys, "--out", "b.key", cwd=tmp_path)
    listed = json.loads(here("keys", "list", "--keys", keys, "--json").stdout)
    assert [(k["name"], k["roles"]) for k in listed] == [("boss", ["control"]), ("camera1", ["publish", "subscribe"])]
    assert "camera1" in here("keys", "list", "--keys", keys).stdout
    with daemon(tiny_bundle, keys=keys) as child:
        assert here("status", child.frames, "--key", str(tmp_path / "b.key")).returncode == 0
        denied = here("status", child.frames, "--key", str(tmp_path / "camera1.key"))
        assert denied.returncode == 3
        assert "refused status: key 'camera1' may not send status: that takes the role control" in denied.stderr
    assert here("keys", "revoke", "boss", "--keys", keys).stdout == "key 'boss' (control) is revoked\n"
    wrong = here("keys", "revoke", "boss", "--keys", keys)
    assert (wrong.returncode, wrong.stderr) == (3, f"rtseg: no key 'boss' in {keys}; there are: camera1\n")


def test_a_folder_without_keys_and_a_file_in_its_place(tmp_path: Path) -> None:
    nothing = here("keys", "list", "--keys", tmp_path)
    assert nothing.returncode == 0
    assert nothing.stderr == f"no key is let in by {tmp_path}; make one with: rtseg keys new NAME --role publish\n"
    (tmp_path / "camera.key").write_text("")
    for words in (("list",), ("revoke", "camera")):
        wrong = here("keys", *words, "--keys", tmp_path / "camera.key")
        assert wrong.returncode == 3
        assert f"{tmp_path / 'camera.key'}: is a file, and a daemon's keys are a folder" in wrong.stderr

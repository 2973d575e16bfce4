import shlex

import pytest
from makers import write_photos
from PIL import Image

from flows import demo_photos

COMMANDS = 3


def next_commands(remarks):
    """Return the commands that the demo proposes, as words."""
    proposed = remarks.partition("Next, try:\n")[2].splitlines()
    return [shlex.split(line) for line in proposed]


@pytest.fixture
def own(tmp_path):
    """Make a folder of a few photos without labels, one of which cannot be read."""
    folder = tmp_path / "My photos"
    write_photos(tmp_path / "labelled", 6)
    folder.mkdir()
    for path in (tmp_path / "labelled").rglob("*.png"):
        path.rename(folder / path.name)
    (folder / "0000.png").write_bytes(b"no image")
    return folder


def test_the_demo_shows_own_photos_and_what_to_do_next(vfs, own, tmp_path):
    code, out, err = vfs("demo", "--images", own, "-k", 3)
    assert code == 0, err
    assert "6 images, 1 unreadable" in err
    assert "nan" not in out
    for layer in ("blocks.4", "blocks.6"):
        with Image.open(tmp_path / "vfs-demo" / f"hits-{layer}.png") as picture:
            assert picture.size[0] > 500
    commands = next_commands(err)
    assert len(commands) == COMMANDS
    assert any("My photos" in word for command in commands for word in command)
    for command in commands:
        assert vfs(*command[1:])[0] == 0, command
    assert (tmp_path / "vfs-demo" / "own.png").exists()


def test_the_demo_ends_with_what_to_do_next(vfs, tmp_path, monkeypatch):
    monkeypatch.setattr(demo_photos, "PHOTOS", ("chelsea.png",))
    monkeypatch.setattr(demo_photos, "SCALES", (1.0,))
    code, _, err = vfs("demo", "-k", 1)
    assert code == 0, err
    commands = next_commands(err)
    assert len(commands) == COMMANDS
    assert commands[2] == ["vfs", "demo", "--images", "~/Pictures"]
    for command in commands[:2]:
        assert vfs(*command[1:])[0] == 0, command
    monkeypatch.setenv("MAKELEVEL", "1")
    again = next_commands(vfs("demo", "-k", 1)[2])
    assert again == [*commands[:2], ["make", "demo", "IMAGES=~/Pictures"]]


def test_the_workspace_is_part_of_what_to_do_next(vfs, own, tmp_path):
    err = vfs("-w", tmp_path / "else where", "demo", "--images", own)[2]
    for command in next_commands(err):
        assert vfs(*command[1:])[0] == 0, command
    assert not (tmp_path / "vfs-workspace").exists()


def test_a_single_photo_is_not_enough(vfs, own, tmp_path):
    for path in sorted(own.iterdir())[2:]:
        path.unlink()
    code, _, err = vfs("demo", "--images", own)
    assert code == 2
    assert "Traceback" not in err
    assert "photo" in err.splitlines()[-1]

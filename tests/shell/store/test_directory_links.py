"""A cache folder that is a link: root's own is followed, as systemd makes them for DynamicUser, and no other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from proxy.shell.store.directory import Directory, UnusableDirectory, follow_root_link

SOMEBODY, ROOT = 4711, 0


@pytest.fixture
def link(tmp_path: Path) -> Path:
    """A link to a folder beside it, in a folder that only its owner writes to."""
    place = tmp_path / "cache"
    (place / "private" / "ours").mkdir(parents=True)
    place.chmod(0o755)
    found = place / "ours"
    found.symlink_to("private/ours")
    return found


needs_root = pytest.mark.skipif(os.geteuid() != ROOT, reason="only root makes links of root's")


@needs_root
def test_a_link_of_roots_is_followed(link: Path) -> None:
    """One step, whether it says where by a relative name or an absolute one; a folder is itself."""
    assert follow_root_link(link, SOMEBODY) == link.parent / "private" / "ours"
    link.unlink()
    link.symlink_to(link.parent / "private")
    assert follow_root_link(link, SOMEBODY) == link.parent / "private"
    assert follow_root_link(link.parent, SOMEBODY) == link.parent


@needs_root
@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
def test_nor_where_others_may_write(link: Path, mode: int) -> None:
    """In a folder that others write to, nobody knows who put the link there."""
    link.parent.chmod(mode)
    assert follow_root_link(link, SOMEBODY) == link


@needs_root
def test_nor_a_link_of_somebodys(link: Path) -> None:
    """Neither a link of another user's, nor one in another user's folder."""
    os.lchown(link, SOMEBODY, SOMEBODY)
    assert follow_root_link(link, SOMEBODY) == link
    os.lchown(link, ROOT, ROOT)
    os.chown(link.parent, SOMEBODY, SOMEBODY)
    assert follow_root_link(link, SOMEBODY) == link


def test_ones_own_link_is_refused(link: Path) -> None:
    """As ever: whoever runs the sidecar names the folder itself."""
    with pytest.raises(UnusableDirectory, match="name the folder itself, not a link to it"):
        Directory(link).enter()


@needs_root
def test_the_target_is_held_to_the_same(link: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It must belong to whoever runs the sidecar, and a second link is not followed."""
    monkeypatch.setattr(os, "geteuid", lambda: SOMEBODY)
    with pytest.raises(UnusableDirectory, match="belongs to user 0"):
        Directory(link).enter()
    ours = link.parent / "private" / "ours"
    os.chown(ours, SOMEBODY, SOMEBODY)
    folder = Directory(link)
    folder.enter()
    folder.make_database()
    folder.leave()
    assert (ours / "cache.db").exists()
    ours.rename(ours.with_name("further"))
    ours.symlink_to("further")
    with pytest.raises(UnusableDirectory, match="not a link to it"):
        Directory(link).enter()

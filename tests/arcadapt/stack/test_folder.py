import os
from pathlib import Path

import pytest

from arcadapt.errors import AlreadyRunning, StackError
from arcadapt.stack.folder import FolderLock, RunningStack, StackFolder

pytestmark = pytest.mark.fast
RUNNING = RunningStack(
    url="http://127.0.0.1:8000", database_url="postgresql:///x", pid=os.getpid(), children={"api": 7}
)


@pytest.fixture
def folder(tmp_path: Path) -> StackFolder:
    folder = StackFolder.of(tmp_path)
    folder.create()
    return folder


def test_what_is_announced_is_read_back_until_it_is_withdrawn(folder: StackFolder):
    assert folder.announced() is None
    folder.announce(RUNNING)
    assert folder.announced() == RUNNING
    folder.withdraw()
    assert folder.announced() is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"url": "x"}', '{"unknown": 1}'])
def test_an_announcement_that_cannot_be_read_is_none(folder: StackFolder, text: str):
    folder.announcement.write_text(text)
    assert folder.announced() is None


def test_an_announcement_is_for_its_owner_only(folder: StackFolder):
    folder.announce(RUNNING)
    assert folder.announcement.stat().st_mode & 0o777 == 0o600


def test_a_folder_is_held_once(folder: StackFolder):
    with FolderLock(folder):
        folder.announce(RUNNING)
        with pytest.raises(AlreadyRunning, match=rf"process {os.getpid()}\) at http://127.0.0.1:8000"):
            FolderLock(folder).acquire()
    with FolderLock(folder):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / ".arcadapt").write_text("a file")
    with pytest.raises(StackError, match=r"\.arcadapt"):
        StackFolder.of(tmp_path).create()

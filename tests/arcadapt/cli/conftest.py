"""Commands run in this process, against no server or a real one."""

from pathlib import Path

import pytest

from arcadapt.cli import main
from tests.arcadapt.cli.ran import Ran, Run


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `arcadapt ARGUMENTS...` in an empty folder, where nothing says which server to use."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("ARCADAPT_URL", "ARCADAPT_API_KEY", "ARCADAPT_API_KEYS", "ARCADAPT_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr("sys.argv", ["arcadapt", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


@pytest.fixture
def run(bare: Run, server_url: str, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The same, with the server named by the environment."""
    monkeypatch.setenv("ARCADAPT_URL", server_url)
    return bare

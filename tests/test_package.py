"""The wheel, as a stranger gets it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_wheel_shows_its_plugins(tmp_path: Path) -> None:
    """Catches plugins, templates or static files that are left out of the wheel: it is built, installed into an empty environment, and asked.

    Built from a copy: building leaves its own folders in the source, where another Python's run builds as well, and a file that is no more would come along.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COVERAGE"))}

    def run(*words: str | Path) -> str:
        done = subprocess.run(words, capture_output=True, cwd=tmp_path, env=environment, timeout=280)
        assert done.returncode == 0, done.stdout.decode()[-2000:] + done.stderr.decode()[-2000:]
        return done.stdout.decode()

    source = tmp_path / "source"
    for name in ("hornetmail", "twisted"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "dropin.cache"))
    for name in ("setup.cfg", "pyproject.toml", "README.rst", "LICENSE"):
        shutil.copy2(ROOT / name, source)
    run(sys.executable, "-m", "build", "--wheel", "--outdir", tmp_path / "dist", source)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    venv.create(tmp_path / "empty", with_pip=True)
    binaries = tmp_path / "empty" / "bin"
    run(binaries / "pip", "install", "--quiet", "--disable-pip-version-check", wheel)
    listed = run(binaries / "twistd", "--help")
    for name in (
        "hornetmail ",
        "hornetmail-smtp",
        "hornetmail-delivery",
        "hornetmail-portal",
        "hornetmail-archive",
        "hornetmail-web",
    ):
        assert name in listed, name
    assert "--role" in run(binaries / "twistd", "hornetmail", "--help")
    run(binaries / "hornetmail", "init", "--dir", tmp_path / "data", "--hostname", "mx.wheel.test", "--ports", "61000")
    files = run(
        binaries / "python", "-c", "import hornetmail.web as w, pathlib; print(*pathlib.Path(w.__file__).parent.rglob('*.*'))"
    )
    for part in ("templates/", "static/", ".css", ".js"):
        assert part in files, part

"""What lands is what passed: commands side by side, none of which may be hidden by another (``tests/lanes.py``)."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.lanes import Lane, main, side_by_side


def lane(folder: Path, name: str, script: str, builds: str | None = None) -> Lane:
    return Lane(name, ["sh", "-c", script], folder / name, ["sh", "-c", builds] if builds else None)


def test_what_failed_is_named_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a lane that fails and is hidden by those that pass, before it or after it, and a log of which only the beginning is kept."""
    lanes = [
        lane(tmp_path, "broken", "echo 'FAILED tests/x.py::test_y - boom'; echo; echo '1 failed, 3 passed in 2 s'; exit 1"),
        lane(tmp_path, "whole", "echo '4 passed in 1 s'"),
    ]
    assert side_by_side(lanes) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[-2:] == ["broken: FAILED tests/x.py::test_y - boom", "broken: 1 failed, 3 passed in 2 s"]
    assert said.index("4 passed in 1 s") < said.index("FAILED tests/x.py::test_y - boom"), "what failed comes last"


def test_all_passed(tmp_path: Path) -> None:
    """Catches an exit code that says nothing."""
    lanes = [lane(tmp_path, "one", "exit 0"), lane(tmp_path, "two", "exit 0", builds="exit 0")]
    assert side_by_side(lanes) == 0
    assert [one.passed for one in lanes] == [True, True]


def test_what_cannot_be_built_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches another Python whose virtual environment cannot be made, and whose tests count as passed."""
    assert side_by_side([lane(tmp_path, "unbuilt", f"touch {tmp_path}/ran", builds="exit 3")]) == 1
    assert not (tmp_path / "ran").exists()
    assert "unbuilt: FAILED" in capsys.readouterr().out


def test_all_is_built_before_any_runs(tmp_path: Path) -> None:
    """Catches a virtual environment that is made while programs run from the same folder: they did not find themselves then."""
    lanes = [
        lane(tmp_path, "runs", f"test -e {tmp_path}/built"),
        lane(tmp_path, "builds", "exit 0", builds=f"touch {tmp_path}/built"),
    ]
    assert side_by_side(lanes) == 0


@pytest.mark.parametrize("deaf", ["", "trap '' TERM; "])
def test_stopped(tmp_path: Path, deaf: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches programs that are left behind, and lanes still begun, when it is ended early; and waiting for ever for one that does not listen."""
    running = lane(tmp_path, "running", f"{deaf}echo here; exec sleep 600")
    running.patience = 0.1
    later = lane(tmp_path, "later", f"touch {tmp_path}/ran")
    one = threading.Thread(target=running.run)
    one.start()
    while "here" not in running.said():
        one.join(0.01)
    running.stop()
    later.stop()
    one.join(60)
    assert not one.is_alive(), "the program has ended"
    assert side_by_side([later]) == 1
    assert not (tmp_path / "ran").exists()
    assert "running: STOPPED" in capsys.readouterr().out


def test_place(tmp_path: Path) -> None:
    """Catches files of tests on a disk for which they would wait most of the time, or left where nobody removes them."""
    one = lane(tmp_path, "one", 'echo "$TMPDIR"')
    one.place = tmp_path / "place"
    one.run()
    assert one.said()[-1] == str(tmp_path / "place")


def test_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a misspelt word in the Makefile with which nothing is run, and nothing fails."""
    assert main(["unitt"]) == 2
    assert main([]) == 2
    assert "unitt" not in capsys.readouterr().out

"""Each promise of the document on security names tests that are there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_promises_are_held_by_tests():
    rows = [line for line in (ROOT / "docs/concepts/security.md").read_text().splitlines() if line.startswith("| ")]
    promises = [row.strip("| ").rpartition(" | ") for row in rows if not row.startswith("| Promise")]
    assert len(promises) >= 10
    for promise, _, tests in promises:
        named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", tests)
        assert named, promise
        for file, test in named:
            assert (ROOT / file).is_file(), file
            assert f"def {test}(" in (ROOT / file).read_text() or not test, (file, test)

"""Write the golden files anew: run it, then read the difference before committing it."""

from __future__ import annotations

import sys

import pytest

if __name__ == "__main__":

    class _Option:
        @staticmethod
        def pytest_addoption(parser: pytest.Parser) -> None:
            parser.addoption("--write-golden", action="store_true", default=False)

    sys.exit(
        pytest.main(
            ["--write-golden", "-q", "-k", "golden", __file__.replace("write_golden", "test_render")], [_Option()]
        )
    )

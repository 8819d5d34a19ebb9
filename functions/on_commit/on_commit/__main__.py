"""``python -m on_commit --check``: says what is misconfigured, and ends with 64 if anything is."""

import sys

from on_commit.main import main

sys.exit(main())

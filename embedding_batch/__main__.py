"""``python -m embedding_batch``: one run; the last line on standard output is its summary as JSON."""

from __future__ import annotations

import os
import sys

from embedding_batch.main import main

sys.exit(main(sys.argv[1:], os.environ))

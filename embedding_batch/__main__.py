"""``python -m embedding_batch``: a run or a step of one; the last line on standard output is what it did, in JSON."""

from __future__ import annotations

import os
import sys

from embedding_batch.main import end_on_sigterm, main

end_on_sigterm()
sys.exit(main(sys.argv[1:], os.environ))

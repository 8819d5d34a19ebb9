"""``python -m embedding_batch.kubeflow``: compile, upload or schedule the pipeline of an index."""

from __future__ import annotations

import os
import sys

from embedding_batch.kubeflow.command import main

sys.exit(main(sys.argv[1:], os.environ))

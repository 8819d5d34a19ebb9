"""Product pictures to a checked, uploaded and committed index.

The steps are functions on values, so that a pipeline engine can take them over: list -> diff -> embed -> build -> check
-> publish -> commit. `batch.run` is the plain order of them; `python -m embedding_batch` is its command.
"""

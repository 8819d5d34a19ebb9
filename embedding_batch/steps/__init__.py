"""The steps of a batch, a module or a folder each: list -> diff -> embed -> build -> check -> publish -> commit.

Each is functions of values, so that a pipeline engine can take them over; `embedding_batch.batch` is their plain order.
"""

"""The steps of a batch, a module or a folder each: `embedding_batch.step` knows them by name, `batch` their order."""

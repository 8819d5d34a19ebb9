"""Step `publish`, and what it puts into the bucket: models, detectors, tags, and index.json last."""

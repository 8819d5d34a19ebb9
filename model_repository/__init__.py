"""The contract of the bucket: what may stand where, and what it means.

Everything but `gcs_store` is the standard library alone and does no I/O, so that every deployable can carry it. Start
reading at `names` (the layout of the bucket), then `commit`, `index_manifest`, `model_manifest`, `receipt`, and
`repository`, which reads and writes them through a `store`.
"""

"""The contract of the bucket, and the rules that every room needs of it.

Start reading at `names` (the layout of the bucket), then `documents` (what stands there), and `repository`, which reads
and writes them through the store of a `bucket`; `builds` says whether a build is whole, `comparing` how two of them
differ, `deployment` what is asked of the CD side. Beside them stands what every program has: `programs`, `errors`,
`exit_codes`, `fields`, `records`, `telemetry`, `clock`.

Everything but `bucket.gcs_store`, `telemetry.open_telemetry` and what functions alone take (`programs.cloud_function`)
is the standard library alone, so that every deployable can carry it.
"""

__version__ = "0.1.0"
CONTRACT = 2
"""The newest form of the bucket's documents that this release reads and writes; it reads all that came before."""

"""What stands in the bucket, each document with its reader and its writer: parse(format(x)) == x.

`commit` (what should serve), `index_manifest` (a build), `model_manifest` (a model) and `receipts` (what became of a
commit); `files` and `items` are parts of a build.
"""

"""What stands in the bucket, each document with its reader and its writer: parse(format(x)) == x.

`commit` (what should serve), `index_manifest` (a build), `model_manifest` (a model) and `receipt` (what became of a
commit, with the `canary_figures` of its canary); `files` and `item_ids` are parts of a build.
"""

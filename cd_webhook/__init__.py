"""Decides, renders, applies, watches the rollout, undoes a bad one, says what happened.

Start at `decide` (what to do), `rollout` (how it goes) and `plan` (what to write): the rules, without I/O. `deliver`
acts on them through `cluster` and the bucket; `watcher` keeps looking; `app` is the door, `main` the wiring.
"""

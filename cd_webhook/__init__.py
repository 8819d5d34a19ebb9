"""Decides, renders, applies, watches the rollout, undoes a bad one, says what happened.

Start at `rules.decide`: what to do about a request. `rules` has the rest of what is decided, without I/O; `state` what
stands on a Deployment; `cluster` the interface to one, and Kubernetes; `canary` what tries a build out first.
`delivery` acts on the rules, and takes every rollout to its end; `status` tells people. `http` is the door, `main`
starts it.
"""

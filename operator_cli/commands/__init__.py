"""What the commands do, before anything is printed.

`changes` (commit, redeploy, rollback, promote), `status` (and history), `pull` and `spinnaker`; `rollback` picks the
build that a rollback means, `waiting` waits for what becomes of a commit.
"""

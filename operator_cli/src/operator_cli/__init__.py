"""indexpush commit, redeploy, rollback, status, history."""

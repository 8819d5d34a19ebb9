"""The operator's command line: commit, redeploy, rollback, status, history, promote, pull; over the bucket only."""

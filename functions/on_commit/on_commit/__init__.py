"""The function that hears of a commit, checks the build and calls the CD webhook."""

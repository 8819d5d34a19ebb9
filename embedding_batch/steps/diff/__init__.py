"""Step `diff`: how a build differs from what serves, and whether it may go live by itself."""

"""A small cluster for one machine: it runs the manifests that Kubernetes gets, with processes for pods.

It is for trying things out on one machine, and for nothing else: no isolation, no limits, no second node, and what it
knows is gone when it ends. What it understands it does as Kubernetes does it; what it doesn't, it refuses by name.
"""

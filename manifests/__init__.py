"""The plain Deployment and Service as templates, and the values of each environment.

Start at `render.render`: a request and the values of its environment become two checked Kubernetes objects.
"""

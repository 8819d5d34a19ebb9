"""The plain Deployment and Service as templates, and the values of each environment."""

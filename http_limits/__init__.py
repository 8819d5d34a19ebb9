"""What one client may cost a server that stands on uvicorn: bounds on requests, time and connections."""

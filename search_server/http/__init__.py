"""HTTP: what uvicorn is bounded by (`protocol`), and requests and answers as the application sees them."""

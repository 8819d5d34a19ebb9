"""HTTP: requests and answers as the application sees them."""

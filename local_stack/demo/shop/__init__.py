"""The demo's shop: its products and what they are, and photos of rooms with some of them."""

"""A request carried out: applied, watched step by step until it serves or is undone, and receipted."""

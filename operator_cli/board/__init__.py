"""``indexpush board``: what serves, who put it there and what became of it, on a page that stays true by itself."""

"""Which items an index has: their ids, their tags, and which of them nobody may find now."""

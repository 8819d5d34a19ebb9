"""What may be found now: the live filter of the index, fetched by the supervisor, mapped by all workers."""

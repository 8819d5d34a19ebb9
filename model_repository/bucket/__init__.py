"""The bucket: the narrow interface to it, Cloud Storage behind that, and what its events say."""

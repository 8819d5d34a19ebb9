"""The bucket over HTTP: connections that never block, what answers mean, who we are, and the loop that downloads.

`downloader.Downloader` is the door; `jobs` says what it is given.
"""

"""The folder that a build appears in: filled beside it, noted part by part, verified, and published by one rename.

`destination.Destination` is the door; `files.Files` is what a downloader is given of it.
"""

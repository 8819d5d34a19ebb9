"""The images, built at once, each with labels that say what it was made of and a bill of materials attached.

`python -m tools.images` is the door (`./noxw -s images`). Start reading at `recipes`; `source` says which commit is
built, `builders` has docker or buildah make an OCI layout, `contents` reads what is in it, `bill` writes that down and
holds it to the lock, `layout` puts labels and bill into the layout, `push` brings it to a registry.
"""

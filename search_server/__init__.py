"""Answers similarity queries from a mapped index: one process, one build, one generation.

Start reading at `server` (what happens when), then `app` (what can be asked), `index` (how it is answered) and `prove`
(why it may be believed).
"""

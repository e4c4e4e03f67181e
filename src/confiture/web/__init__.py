"""The page about the runs, as a file and served over HTTP.

``page`` turns the facts into HTML without I/O, from the templates of this folder. ``server`` answers requests with it.
The packages of the extra ``web`` are imported by ``server`` only.
"""

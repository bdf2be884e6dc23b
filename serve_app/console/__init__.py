"""Web pages: the console at ``/`` and the API documentation at ``/docs``.

Static files only, from here and from installed packages; the pages get their data from the API.
"""

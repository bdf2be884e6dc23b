"""The pages that people open: the console at ``/`` and the API documentation at ``/docs``.

Static files only, from here and from installed packages; what they show they ask of the API.
"""

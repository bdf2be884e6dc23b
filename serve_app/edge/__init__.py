"""What stands between a caller and Serve: our rules for HAProxy, and the headers Serve must not see.

``haproxy`` is the program that Serve starts instead of HAProxy, ``before_serve.middlewares`` the
middleware in front of Serve's own application.
"""

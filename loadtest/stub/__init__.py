"""A stand-in for the tollama daemon: its contract, its call times and its faults.

``app.build_app`` is the daemon as an ASGI app, ``process.StubProcess`` the same as a process, and
``python -m loadtest.stub_tollama`` the command.
"""

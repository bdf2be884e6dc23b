"""A stand-in for the tollama daemon: what does it accept, how long does it take, how does it fail?

``app.build_app`` is the daemon as an ASGI app, ``process.start_stub`` the same as a process, and
``python -m loadtest.stub_tollama`` the command.
"""

"""Starts the service on one machine, and checks configuration files.

``launcher.main`` is ``make run`` and ``tsfm serve``; ``config_check.check_file`` is
``tsfm check-config``.
"""

"""How the service starts on one machine, and how configuration files are checked.

``launcher.main`` is ``make run`` and ``tsfm serve``; ``config_check.check_file`` is
``tsfm check-config``.
"""

"""What can be asked over HTTP, and what is answered. No Ray here, so all of it runs bare in tests.

``routes.build_app`` makes the Starlette application from ``service.Dependencies``. Bodies of
requests are in ``requests``, of answers in ``responses``; the table from error to status is in
``errors``.
"""

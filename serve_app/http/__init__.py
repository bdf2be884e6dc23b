"""The HTTP interface: endpoints, request and answer bodies, errors. Tests run it without Ray.

``routes.build_app`` makes the Starlette application from ``service.Dependencies``. Bodies of
requests are in ``requests``, of answers in ``responses``; the table from error to status is in
``errors``.
"""

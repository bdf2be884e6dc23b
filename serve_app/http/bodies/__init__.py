"""Parsing of long bodies without blocking the event loop.

In ``forecast``, ``parse_forecast`` reads one request and ``BatchReader`` the items of a batch; both
yield to the event loop between slices of work.
"""

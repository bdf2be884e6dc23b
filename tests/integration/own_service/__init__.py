"""Tests that start a service, or HAProxy, of their own: they may run at the same time."""

"""The app of the service, whose answers the client reads."""

from tests.unit.serve_app.conftest import bench as bench

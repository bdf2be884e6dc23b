"""Hides the real pandas from the service's processes, none of which needs it.

Ray Serve imports pandas in every process where it is installed: 0.4 s of CPU and 32 MB in each.
"""

raise ImportError("left out of the service's processes by serve_app.launch.launcher")

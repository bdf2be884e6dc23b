"""The HTTP service: Ray Serve deployments and the Starlette ingress around `runner`."""

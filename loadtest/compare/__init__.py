"""The service against what it stands on: an empty Serve application, and the runtime by itself."""

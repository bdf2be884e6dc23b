"""The commands of ``tsfm``, one module each; ``serve_app.cli`` joins them."""

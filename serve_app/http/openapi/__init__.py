"""The OpenAPI document: ``document.build_document`` makes it from the models of the bodies."""

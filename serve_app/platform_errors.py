"""The error codes and messages of answers that Serve or HAProxy gives, and not the service.

Nothing heavy is imported here: HAProxy waits for it at every change of its configuration.
"""

RETRY_AFTER_S = 1
UNAVAILABLE = ("unavailable", "No process takes this request at the moment; retry.")
REQUEST_TIMEOUT = ("request_timeout", "The request was not served in time.")
NOT_FOUND = ("not_found", "There is nothing here; POST /tsfm/forecast is where forecasts are made.")
INTERNAL_ERROR = (
    "internal_error",
    "Something failed on our side; retry, and quote the request id if it happens again.",
)

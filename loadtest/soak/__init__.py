"""Hours of traffic by impatient callers, and what the service's processes hold meanwhile."""

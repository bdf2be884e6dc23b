"""What the bands are without a model: the EWMA baseline.

``requests.baseline_bands`` makes the bands of a list of requests. The arithmetic is in
``ewma_bands``, the estimates of scale in ``scale_estimates``.
"""

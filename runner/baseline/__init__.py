"""What are the bands without a model? The EWMA baseline.

``requests.baseline_bands`` makes the bands of a list of requests. The arithmetic is in
``ewma_bands``, the estimates of scale in ``scale_estimates``.
"""

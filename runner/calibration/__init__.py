"""How are bands corrected by the outcomes of earlier forecasts?

``conformal.adjust`` corrects a band by a ``state.ConformalState``.
``online_calibrator.OnlineCalibrator`` updates the state from the stream of requests and outcomes.
``state.segment_chain`` says which forecasts are calibrated together.
"""

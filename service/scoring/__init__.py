"""Anomaly scores: measures, calibration, verdicts. Pure NumPy; knows no models and no HTTP."""

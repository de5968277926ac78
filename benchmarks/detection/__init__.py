"""How well anomalies are found: on tables and among digits, beside other detectors."""

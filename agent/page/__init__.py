"""A calibration as one page of HTML: for a person with a browser and no network."""

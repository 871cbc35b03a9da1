"""Reports: neutral tables of raw values, and one printer per format. Nothing here prints."""

"""Where data are: paths, zipped stores and URLs; files that are complete or absent."""

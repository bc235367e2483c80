"""A viewer for browsers: Zarr arrays -> tiles, decoded when they are asked for, over HTTP on this machine (extra serve).

collection   a location -> the images in it, each with the levels of its pyramid
served_store a store -> the same store, whose reads are counted and stay within the served folder
blocks       levels -> decoded values, bounded in memory, each decoded once at a time
picture      values -> PNG
app, server  requests -> responses; the process that listens
page/        the page, which asks for tiles
"""

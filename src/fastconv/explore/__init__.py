"""``fastconv explore``: a page on which convolution, pooling and networks can be touched.

The page (`page/`, plain JavaScript) shows and asks; this package answers. One file has one job:
`_protocol.py` is how arrays travel, `_server.py` who is answered, `_application.py` which questions
there are, `_kernel.py` and `_network.py` what is computed, `_catalog.py` which pictures there are,
and `_page.py` turns the page into one file.
"""

"""The page at `/`: a person talks to a checkpoint from a browser.

Plain HTML, CSS and JavaScript modules, which lie in `static` as they are sent;
`page` serves them. It speaks the protocol of `/v1/realtime` as any other client
does, and asks for nothing from elsewhere.
"""

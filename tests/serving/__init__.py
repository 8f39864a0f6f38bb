"""The server: what it offers over HTTP and WebSockets, and its page."""

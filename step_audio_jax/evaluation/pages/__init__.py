"""HTML pages and SVG charts without outside resources."""

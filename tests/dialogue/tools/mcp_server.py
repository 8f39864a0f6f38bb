"""A server of tools that talks over its standard input and output."""

import os
import sys


def made():
  from mcp.server import mcpserver
  from mcp.server.mcpserver import exceptions

  server = mcpserver.MCPServer('test')

  @server.tool()
  def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b

  @server.tool()
  def fail(why: str) -> str:
    """Fails."""
    raise exceptions.ToolError(why)

  @server.tool(name='not a name')
  def unnamed() -> str:
    """Is no tool by the rules of others."""
    return ''

  @server.tool()
  def whoami() -> str:
    """Tells a variable."""
    return os.environ.get('WHO', 'nobody')

  @server.tool()
  def quit_now() -> str:
    """Ends the server."""
    os._exit(3)

  return server


if __name__ == '__main__':
  sys.exit(made().run('stdio'))

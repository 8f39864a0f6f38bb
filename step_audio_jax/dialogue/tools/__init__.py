"""Tools that a model calls while it speaks: schemas, runs, results.

`registry` holds what there is, `arguments` checks what a model asks with,
`runner` runs calls beside the speech and makes turns of what they give, `mcp`
brings the tools of other servers, `clock` and `calculator` are two of our own.
"""

"""The offline flow: speech tokens → mel by conditional flow matching."""

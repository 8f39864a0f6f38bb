"""Making: texts become speech that was changed, judged and written down."""

"""The figures of the page, one module for each: its table, its still, its form in a browser, and `FIGURE`, its name."""

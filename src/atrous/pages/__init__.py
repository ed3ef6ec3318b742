"""The only place that writes HTML: templates, one stylesheet, and the figures that they show."""

"""Where everything lies, on several devices and the host: what fits, what does not, and what to change."""

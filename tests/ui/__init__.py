"""The page at `/ui` as people use it, in headless Chromium."""

"""The Serve deployments: thin shells around serve_app, and the only code that knows Ray."""

"""Every client's dialect against every provider's, by the vendors' SDKs over real connections."""

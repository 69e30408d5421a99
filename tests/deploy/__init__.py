"""The files for servers and clusters, checked without network, cluster or Docker."""

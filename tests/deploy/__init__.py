"""The files for servers and clusters, checked without any: no network, no cluster, no docker."""

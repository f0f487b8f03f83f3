"""Load tests: locust users that speak the binary WebSocket protocol, and a runner that starts the server for them."""

"""The messaging core: protocol, connections, hub, channels, recovery.

No database, broker, Redis or HTTP framework in here. The core speaks to them through the small interfaces of
`realtime.interfaces`, which `storage`, `presence` and `gateway_node` implement.
"""

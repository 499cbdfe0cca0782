"""Numbers of nodes: workers from 0, the server (with regions the upper one) -1, servers of regions from -2 down."""

SERVER = -1


def region_node(region: int) -> int:
    """Returns the number of a region's server."""
    return SERVER - 1 - region


def region_of(node: int) -> int:
    """Returns the number of the region that a server is of."""
    return SERVER - 1 - node

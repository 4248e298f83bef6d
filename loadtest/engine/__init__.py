"""Many clients in one process: raw sockets, one epoll loop, and books in which every delivery is checked."""
